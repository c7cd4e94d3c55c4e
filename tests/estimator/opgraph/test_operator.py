from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from operator_examples import MAP, convolutions

from lanefit.common.errors import ModelError
from lanefit.estimator.opgraph.operator import Kind, Operator, Window, convolution_kind


@given(convolutions())
def test_an_operator_survives_its_canonical_form_and_keeps_its_digest(operator: Operator) -> None:
    again = Operator.from_dict(operator.as_dict())
    assert again == operator
    assert again.digest() == operator.digest()


@given(convolutions())
def test_a_convolution_counts_one_product_per_weight_and_output_position(operator: Operator) -> None:
    positions = operator.output[2] * operator.output[3]
    assert operator.macs == positions * prod(operator.weights[0])


def test_a_grouped_convolution_multiplies_less_than_a_dense_one_of_the_same_shape() -> None:
    dense = Operator(Kind.CONV, (MAP,), MAP, Window.square(3, 1, 1), ((8, 8, 3, 3),))
    grouped = Operator(Kind.GROUPED, (MAP,), MAP, Window.square(3, 1, 1, groups=4), ((8, 2, 3, 3),))
    assert grouped.macs * 4 == dense.macs


def test_kinds_of_convolutions_follow_their_groups() -> None:
    assert [convolution_kind(groups, 8) for groups in (1, 2, 8)] == [Kind.CONV, Kind.GROUPED, Kind.DEPTHWISE]


def test_a_product_of_matrices_counts_its_inner_extent_for_every_batch() -> None:
    product = Operator(Kind.MATMUL, ((1, 4, 10, 16), (1, 4, 16, 7)), (1, 4, 10, 7))
    assert product.macs == 4 * 10 * 16 * 7
    assert product.weight_bytes == 0


def test_bytes_follow_the_data_type_and_biases_of_int8_are_accumulators() -> None:
    window, weights = Window.square(1), ((4, 8, 1, 1), (4,))
    wide = Operator(Kind.CONV, (MAP,), (1, 4, 16, 16), window, weights)
    narrow = Operator(Kind.CONV, (MAP,), (1, 4, 16, 16), window, weights, "int8")
    assert (wide.input_bytes, wide.output_bytes, wide.weight_bytes) == (4 * 2048, 4 * 1024, 4 * 36)
    assert (narrow.input_bytes, narrow.output_bytes, narrow.weight_bytes) == (2048, 1024, 32 + 4 * 4)


def test_an_unknown_operator_keeps_its_name_and_still_counts_elements() -> None:
    unknown = Operator("Erf", (MAP,), MAP)
    assert unknown.kind == "Erf"
    assert unknown.elementary_steps == prod(MAP)


def test_pools_count_every_tap_of_their_windows() -> None:
    pool = Operator(Kind.AVERAGE_POOL, (MAP,), MAP, Window.square(3, 1, 1))
    assert (pool.macs, pool.elementary_steps) == (0, 9 * prod(MAP))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": ""}, "needs a kind"),
        ({"kind": "relu", "output": (1, 0)}, "below 1"),
        ({"kind": "relu", "dtype": "float31"}, "float31"),
        ({"kind": "relu", "window": Window()}, "window"),
        ({"kind": "max-pool"}, "window"),
        ({"kind": "conv", "window": Window()}, "weights"),
        ({"kind": "linear"}, "weights"),
        ({"kind": "constant"}, "no inputs"),
    ],
)
def test_a_contradictory_operator_is_refused(fields: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"inputs": (MAP,), "output": MAP, **fields}
    with pytest.raises(ModelError, match=message):
        Operator(**values)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "relu"},
        {"kind": "relu", "inputs": 3, "output": [1]},
        {"kind": "relu", "inputs": [], "output": [1], "colour": "red"},
        {"kind": "max-pool", "inputs": [[1]], "output": [1], "window": {"kernel": [1, 1]}},
    ],
)
def test_a_document_that_is_no_operator_is_a_typed_error(document: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="operator"):
        Operator.from_dict(document)


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(ModelError, match="start at 1"):
        Window.square(0)
