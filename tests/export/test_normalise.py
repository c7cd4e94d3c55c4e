"""Normalisation changes the form of a QDQ model and no value of it."""

import numpy as np
import pytest
from export_examples import EveryOperator, Mixed, QdqGraph, conv_graph, float_model, int8_model
from onnx import ModelProto, TensorProto

from lanefit.common.errors import ModelError
from lanefit.export.normalise import normalise
from lanefit.export.onnx_model import DEQUANTISE, QUANTISE, GraphIndex
from lanefit.export.split_run import run_samples, session


def _assert_equal_values(model: ModelProto, shape: tuple[int, ...]) -> ModelProto:
    """Bit equality of every output in ONNX Runtime, with its own rewriting switched off."""
    normal = normalise(model)
    x = np.random.default_rng(1).standard_normal((6, *shape[1:]), np.float32) * 3
    before, after = (run_samples(session(m, exact=True), {"input": x}) for m in (model, normal))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    return normal


def _kinds(model: ModelProto) -> set[np.dtype]:
    index = GraphIndex(model)
    params = [index.params(node) for node in index.nodes if node.op_type in (QUANTISE, DEQUANTISE)]
    return {p.dtype for p in params if p is not None}


@pytest.mark.parametrize("kind", [EveryOperator, Mixed])
def test_own_models_keep_their_values(kind: type) -> None:
    _assert_equal_values(int8_model(kind), kind.shape)


def test_normalising_twice_is_normalising_once() -> None:
    once = normalise(int8_model(EveryOperator))
    assert normalise(once) == once


def test_uint8_activations_and_weights_become_int8() -> None:
    weights = np.random.default_rng(0).integers(0, 255, (3, 4, 3, 3)).astype(np.uint8)
    model = _assert_equal_values(conv_graph(weights, stored=np.uint8, zero_point=128), (1, 4, 6, 6))
    assert _kinds(model) == {np.dtype(np.int8)}


def test_quantised_float_weights_are_stored_as_integers() -> None:
    graph = QdqGraph((1, 4, 6, 6))
    w = graph.constant("w", np.random.default_rng(0).standard_normal((3, 4, 3, 3)).astype(np.float32))
    y = graph.op("Conv", "conv", [graph.pair("input", "x", 0.03, 5), graph.pair(w, "wq", 0.02, 0)])
    model = _assert_equal_values(graph.model(graph.pair(y, "y", 0.05, 3)), (1, 4, 6, 6))
    assert sum(node.op_type == QUANTISE for node in model.graph.node) == 2


def test_views_move_before_the_dequantise_and_round_trips_vanish() -> None:
    graph = QdqGraph((1, 4, 6, 6))
    x = graph.pair("input", "x", 0.03, 5)
    flat = graph.pair(graph.op("Flatten", "flat", [graph.op("Identity", "same", [x])]), "f", 0.03, 5)
    model = _assert_equal_values(graph.model(flat), (1, 4, 6, 6))
    assert [node.op_type for node in model.graph.node] == [QUANTISE, "Flatten", DEQUANTISE]


def test_a_view_with_another_scale_behind_it_keeps_its_quantise() -> None:
    graph = QdqGraph((1, 4, 6, 6))
    flat = graph.pair(graph.op("Flatten", "flat", [graph.pair("input", "x", 0.03, 5)]), "f", 0.07, 5)
    model = _assert_equal_values(graph.model(flat), (1, 4, 6, 6))
    assert [n.op_type for n in model.graph.node] == [QUANTISE, "Flatten", DEQUANTISE, QUANTISE, DEQUANTISE]


def test_a_uint8_border_of_the_model_stays_uint8() -> None:
    graph = QdqGraph((1, 4, 6, 6), np.uint8)
    y = graph.op("Relu", "relu", [graph.pair("input", "x", 0.03, 128)])
    zero = [graph.constant("s", np.array(0.02, np.float32)), graph.constant("z", np.array(7, np.uint8))]
    model = graph.model(graph.op(QUANTISE, "last", [y, *zero]), output_type=TensorProto.UINT8)
    normal = _assert_equal_values(model, (1, 4, 6, 6))
    assert GraphIndex(normal).dtype(normal.graph.output[0].name) == np.uint8
    assert np.dtype(np.int8) in _kinds(normal)


def test_a_uint8_input_is_translated_at_the_border() -> None:
    graph = QdqGraph((1, 4, 6, 6), np.uint8)
    numbers = [graph.constant("s", np.array(0.03, np.float32)), graph.constant("z", np.array(128, np.uint8))]
    y = graph.op("Relu", "relu", [graph.op(DEQUANTISE, "first", ["input", *numbers])])
    model = graph.model(graph.pair(y, "y", 0.02, 0))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    normal = normalise(model)
    x = np.random.default_rng(0).integers(0, 255, (4, 4, 6, 6)).astype(np.uint8)
    outputs = [next(iter(run_samples(session(m, exact=True), {"input": x}).values())) for m in (model, normal)]
    np.testing.assert_array_equal(*outputs)
    relu = next(node for node in normal.graph.node if node.name == "relu")
    params = GraphIndex(normal).params(GraphIndex(normal).producer[relu.input[0]])
    assert params is not None
    assert params.dtype == np.int8


def test_dead_operators_and_unused_constants_go() -> None:
    graph = QdqGraph((1, 4, 6, 6))
    x = graph.pair("input", "x", 0.03, 5)
    graph.op("Relu", "dead", [x])
    graph.constant("unused", np.zeros(3, np.float32))
    model = normalise(graph.model(graph.pair(x, "y", 0.05, 3)))
    assert "dead" not in {node.name for node in model.graph.node}
    assert "unused" not in {t.name for t in model.graph.initializer}


def test_a_float_model_is_refused_with_a_hint() -> None:
    with pytest.raises(ModelError, match="give calibration data"):
        normalise(float_model(Mixed))
