from __future__ import annotations

from collections.abc import Callable

import pytest

from lanefit.common.errors import ModelError
from lanefit.models.layers import LayerBuilder, LayerKind, LayerSpec, reaches_output


def test_the_builder_keeps_track_of_shapes_and_names() -> None:
    net = LayerBuilder((3, 9, 9))
    net.conv("a", 8, kernel=3, stride=2, activation="relu")
    net.depthwise("b", kernel=5)
    net.add("c", "a")
    net.classifier(4)
    assert [(layer.name, layer.inputs, layer.output_shape) for layer in net.layers()] == [
        ("a", ("input",), (8, 5, 5)),
        ("b", ("a",), (8, 5, 5)),
        ("c", ("b", "a"), (8, 5, 5)),
        ("pool", ("c",), (8, 1, 1)),
        ("classifier", ("pool",), (4, 1, 1)),
    ]


def test_work_and_weights_follow_from_the_shapes() -> None:
    conv = LayerSpec("a", LayerKind.CONV, ("input",), (3, 8, 8), (16, 4, 4), 3, 2, 1)
    depthwise = LayerSpec("b", LayerKind.DEPTHWISE, ("a",), (16, 4, 4), (16, 4, 4), 5, 1, 2)
    linear = LayerSpec("c", LayerKind.LINEAR, ("b",), (16, 1, 1), (10, 1, 1))
    assert [(layer.weights, layer.macs) for layer in (conv, depthwise, linear)] == [
        (432, 6912),
        (400, 6400),
        (160, 160),
    ]
    assert LayerSpec("d", LayerKind.ADD, ("a", "b"), (16, 4, 4), (16, 4, 4)).macs == 0


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (lambda: LayerSpec("a", LayerKind.CONV, ("input",), (3, 8, 8), (16, 8, 8), 3, 2, 1), r"gives \(16, 4, 4\)"),
        (lambda: LayerSpec("a", LayerKind.DEPTHWISE, ("input",), (3, 8, 8), (4, 8, 8), 3, 1, 1), r"gives \(3, 8, 8\)"),
        (lambda: LayerSpec("a", LayerKind.ADD, ("input",), (3, 8, 8), (3, 8, 8)), "cannot have 1 inputs"),
        (
            lambda: LayerSpec("a", LayerKind.CONV, ("input",), (3, 8, 8), (3, 8, 8), activation="gelu"),
            "'gelu' is none of",
        ),
        (lambda: LayerSpec("a", LayerKind.CONV, ("input",), (3, 0, 8), (3, 0, 8)), "empty map"),
    ],
)
def test_a_layer_that_contradicts_itself_is_refused(layer: Callable[[], LayerSpec], what: str) -> None:
    with pytest.raises(ModelError, match=what) as caught:
        layer()
    assert caught.value.where == "layer 'a'"


def test_an_output_is_reached_past_zeros_but_not_through_them() -> None:
    net = LayerBuilder((4, 6, 6))
    net.zero("nothing")
    net.add("sum", "input")
    assert reaches_output(net.layers())
    lost = LayerBuilder((4, 6, 6))
    lost.zero("nothing")
    lost.conv("blind", 4)
    assert not reaches_output(lost.layers())


def test_a_gate_reads_one_value_for_each_channel() -> None:
    net = LayerBuilder((8, 6, 6))
    net.squeeze_excite("gate", 2)
    scale = net.layers()[-1]
    assert scale.input_shapes == ((8, 6, 6), (8, 1, 1))
    assert [layer.parameters for layer in net.layers()] == [0, 8 * 2 + 2, 2 * 8 + 8, 0]


def test_a_sum_of_many_is_a_chain_of_sums_and_a_sum_of_one_is_nothing() -> None:
    net = LayerBuilder((4, 6, 6))
    for name in "abc":
        net.rewind("input")
        net.conv(name, 4)
    net.sum("total", ("a", "b", "c"))
    assert [(layer.name, layer.inputs) for layer in net.layers()[3:]] == [
        ("total_1", ("a", "b")), ("total", ("total_1", "c")),
    ]  # fmt: skip
    net.sum("alone", ("b",))
    assert (net.last, len(net.layers())) == ("b", 5)
