"""ONNX Runtime as a second opinion: one operator of the engine and one of ONNX differ by at most one step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lanefit.common.errors import UnsupportedError
from lanefit.export.equality import device_outputs, random_case
from lanefit.export.graph import Graph
from lanefit.export.importer import import_model
from lanefit.export.qdq import has_qdq_form, largest_step, run_qdq, to_qdq, tolerance
from lanefit.export.random_operators import OPERATORS, random_operator
from lanefit.export.reference import run_region, to_host
from lanefit.targets.spec import load_spec, preset_names

PRESETS = [load_spec(name) for name in preset_names()]
CASES = 25


def _has_form(kind: str) -> bool:
    return has_qdq_form(random_operator(np.random.default_rng(0), kind))


@pytest.mark.parametrize("kind", [kind for kind in OPERATORS if _has_form(kind)])
def test_one_operator_is_within_the_tolerance_of_onnxruntime(kind: str) -> None:
    for number in range(CASES):
        case = random_case(np.random.default_rng([99, number]), kind, PRESETS, mixed=0)
        ours, theirs = device_outputs(case, number), run_qdq(case.graph, case.inputs)
        assert largest_step(ours, theirs) <= tolerance(case.graph), f"{kind} {number}: {case.graph.nodes}"


@pytest.mark.parametrize("kind", ["conv2d", "add", "gate", "layer_norm", "reduce"])
def test_the_tolerance_is_one_step(kind: str) -> None:
    assert tolerance(random_operator(np.random.default_rng(0), kind)) == 1


def test_a_softmax_is_allowed_what_its_fifteen_fraction_bits_cannot_say() -> None:
    graph = random_operator(np.random.default_rng(0), "softmax")
    output = graph.tensors[graph.outputs[0]]
    channels = output.shape[2]
    for scale, steps in ((1 / 256, -(-2 * (1 + channels) // 128)), (2.0**-20, 64 * (1 + channels))):
        quantised = replace(output, quantisation=replace(output.quantisation, scale=scale))
        assert tolerance(replace(graph, tensors={**graph.tensors, output.name: quantised})) == 1 + steps


def test_the_largest_step_is_counted_without_wrapping_around() -> None:
    low, high = np.array([[[[-128, 3]]]], np.int8), np.array([[[[127, 3]]]], np.int8)
    assert largest_step({"a": low, "b": low}, {"a": high, "b": low}) == 255


def test_a_second_opinion_on_a_wrong_result_is_more_than_a_step_away() -> None:
    case = random_case(np.random.default_rng(1), "conv2d", PRESETS, mixed=0)
    name = case.graph.inputs[0]
    shifted = replace(case.graph.tensors[name], quantisation=replace(case.graph.tensors[name].quantisation, scale=9.0))
    other = replace(case.graph, tensors={**case.graph.tensors, name: shifted})
    assert largest_step(device_outputs(case), run_qdq(other, case.inputs)) > tolerance(case.graph)


def _batch_of_one(graph: Graph) -> Graph:
    model = to_qdq(graph)
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    imported = import_model(model)
    (region,) = imported.regions
    return region.graph


@pytest.mark.parametrize("kind", ["conv2d", "depthwise", "linear", "max_pool", "average_pool", "add", "requantise"])
def test_a_graph_comes_back_from_its_onnx_form_with_the_same_bits(kind: str) -> None:
    for number in range(10):
        case = random_case(np.random.default_rng([7, number]), kind, PRESETS, mixed=0)
        graph, back = case.graph, _batch_of_one(case.graph)
        inputs = {name: to_host(value, graph.tensors[name]) for name, value in case.inputs.items()}
        ours, theirs = run_region(graph, inputs), run_region(back, inputs)
        for name in graph.outputs:
            np.testing.assert_array_equal(theirs[name], ours[name], err_msg=f"{kind} {number}")


def test_an_operator_without_an_onnx_form_is_refused_by_name() -> None:
    class Mystery:
        macs, dtype = 0, "int8"

    graph = random_operator(np.random.default_rng(0), "add")
    node = replace(graph.nodes[0], op=Mystery())  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnsupportedError, match="Mystery has no QDQ form"):
        to_qdq(replace(graph, nodes=(node,)))
