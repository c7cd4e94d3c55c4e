"""bf16 results lie within bounds that follow from the number of roundings, and the bounds are tight enough to tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lanefit.common.errors import UnsupportedError
from lanefit.export.float_bounds import Bounded, float64_results
from lanefit.export.graph import ConvConstants, Graph, Node, Tensor
from lanefit.export.random_bf16 import BF16_KINDS, random_bf16_cases
from lanefit.export.random_operators import random_operator
from lanefit.kernels.element_types import full_range
from lanefit.kernels.ops import Conv2d, Window
from lanefit.targets.elements import rounded_to_bf16
from lanefit.targets.spec import load_spec, preset_names

PRESETS = [load_spec(name) for name in preset_names()]
CASES = 6


@pytest.mark.parametrize("kind", BF16_KINDS)
def test_the_engine_keeps_to_the_bounds_of_float64(kind: str) -> None:
    shares = [
        case.share_of_bound()
        for number in range(CASES)
        for case in random_bf16_cases(np.random.default_rng(number), kind, PRESETS)
    ]
    assert len(shares) > 2 * CASES
    assert max(shares) <= 1


def _products(depth: int) -> tuple[Graph, np.ndarray]:
    """A linear layer over `depth` positive bf16 inputs, and one sample of them."""
    rng = np.random.default_rng(depth)
    op = Conv2d((1, 1, depth), (1, 1, 16), Window(1, 1), dtype="bf16")
    weights = rounded_to_bf16(rng.uniform(0.5, 1, (16, 1, 1, depth)).astype(np.float32))
    ends = {
        "x": Tensor("x", op.input, host_shape=(depth,), dtype="bf16"),
        "y": Tensor("y", op.output, host_shape=(16,), dtype="bf16"),
    }
    constants = ConvConstants(weights, np.zeros(16, np.float32), np.ones(16))
    graph = Graph((Node("linear", op, ("x",), "y", full_range("bf16")),), ends, ("x",), ("y",), {"linear": constants})
    return graph, rounded_to_bf16(rng.uniform(0.5, 1, (1, 1, 1, depth)).astype(np.float32))


@pytest.mark.parametrize("depth", [20, 300])
def test_sums_that_are_rounded_to_bf16_on_the_way_break_the_bound(depth: int) -> None:
    graph, x = _products(depth)
    total = np.zeros(16, np.float32)
    for product in (graph.constants["linear"].weights[:, 0, 0] * x[0, 0, 0]).T:  # pyright: ignore
        total = rounded_to_bf16(total + product)
    assert float64_results(graph, {"x": x}).worst(total.reshape(1, 1, 1, 16)) > 1


def test_one_more_bf16_step_breaks_the_bound() -> None:
    graph, x = _products(40)
    found = float64_results(graph, {"x": x})
    nearest = rounded_to_bf16(found.values.astype(np.float32))
    assert found.worst(nearest) <= 1
    assert found.worst(nearest * np.float32(1 + 2**-6)) > 1


def test_longer_sums_may_be_off_by_more() -> None:
    short, long = (float64_results(graph, {"x": x}) for graph, x in (_products(20), _products(2000)))
    assert np.max(long.errors / long.values) > np.max(short.errors / short.values)


def test_an_exact_result_takes_no_share_of_any_bound() -> None:
    values = np.array([0.0, 1.0])
    assert Bounded(values, np.array([0.0, 0.5])).worst(values) == 0
    assert Bounded(values, np.array([0.0, 0.5])).worst(np.array([0.0, 2.0])) == 2


def test_operators_without_a_bound_are_refused_by_name() -> None:
    graph = random_operator(np.random.default_rng(0), "transpose")
    inputs = {name: np.zeros((1, *graph.tensors[name].shape), np.int8) for name in graph.inputs}
    with pytest.raises(UnsupportedError, match="no bound is known for Transpose"):
        float64_results(replace(graph), inputs)
