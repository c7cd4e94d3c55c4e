"""Quantisation: what it makes, and what data it refuses."""

import numpy as np
import pytest
from export_examples import EveryOperator, Mixed, QdqGraph, float_model, int8_model
from onnx import TensorProto

from lanefit.common.errors import ModelError
from lanefit.export.onnx_model import GraphIndex
from lanefit.export.quantise import is_quantised, quantise, random_calibration
from lanefit.export.split_run import run_samples, session
from lanefit.export.verify import sqnr_db


def test_activations_are_asymmetric_int8_and_weights_symmetric_per_channel() -> None:
    index = GraphIndex(int8_model(EveryOperator))
    conv = next(node for node in index.nodes if node.name == "stem.0")
    activation, weights = (index.params(index.producer[name]) for name in conv.input[:2])
    assert activation is not None
    assert weights is not None
    assert activation.dtype == np.int8
    assert weights.scale.shape == (8,)
    assert not weights.zero_point.any()


def test_relu_disappears_into_the_output_range() -> None:
    assert not {"Relu", "Clip"} & {node.op_type for node in int8_model(EveryOperator).graph.node}


def test_operators_that_the_engine_lacks_stay_float() -> None:
    graph = QdqGraph((1, 4))
    inner = graph.op("Sin", "inner", [graph.op("Softmax", "first", ["input"])])
    last = graph.op("Softmax", "last", [graph.op("Sin", "outer", [inner])])
    index = GraphIndex(quantise(graph.model(last), random_calibration(graph.shape)))
    assert [node.op_type for node in index.consumers[inner]] == ["Sin"]


def test_no_rounding_happens_inside_of_a_function_of_one_tensor() -> None:
    graph = QdqGraph((1, 2, 4, 4))
    x = graph.op("Softmax", "first", ["input"])
    y = graph.op("Mul", "gated", [x, graph.op("Sigmoid", "gate", [x])])
    model = quantise(graph.model(graph.op("Softmax", "last", [y])), random_calibration(graph.shape))
    index = GraphIndex(model)
    assert [node.op_type for node in index.consumers["gate.out"]] == ["Mul"]
    assert all(index.producer[name].op_type == "DequantizeLinear" for name in index.producer["gate.out"].input)
    assert "Identity" not in {node.op_type for node in model.graph.node}


def test_the_quantised_model_is_close_to_the_float_one() -> None:
    x = np.random.default_rng(5).standard_normal((32, *EveryOperator.shape[1:]), np.float32)
    real, int8 = (run_samples(session(f(EveryOperator)), {"input": x})["output"] for f in (float_model, int8_model))
    assert sqnr_db(real, int8) > 18


def test_batches_and_single_samples_calibrate_alike() -> None:
    batch = random_calibration(Mixed.shape, 4)[0]
    assert quantise(float_model(Mixed), [batch]) == quantise(float_model(Mixed), list(batch))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "empty"),
        ([np.zeros((2, 3, 8, 8), np.float32)], r"must be float32 \(n, 1, 8, 8\)"),
        ([np.zeros((2, 1, 8, 8))], "float64"),
        ([np.full((1, 1, 8, 8), np.nan, np.float32)], "NaN"),
    ],
    ids=["empty", "shape", "dtype", "nan"],
)
def test_unusable_calibration_data_is_refused(data: list[np.ndarray], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        quantise(float_model(Mixed), data)


def test_a_quantised_model_is_not_quantised_again() -> None:
    assert is_quantised(int8_model(Mixed))
    with pytest.raises(ModelError, match="quantised already"):
        quantise(int8_model(Mixed), random_calibration(Mixed.shape))


def test_an_operator_that_onnx_runtime_cannot_run_is_an_error_of_the_model() -> None:
    graph = QdqGraph((1, 1, 8, 8))
    kernel = np.ones((1, 1, 3, 3))
    wide = graph.op("Cast", "wide", ["input"], to=TensorProto.DOUBLE)
    up = graph.op("ConvTranspose", "up", [wide, graph.constant("up.w", kernel)])
    narrow = graph.op("Cast", "narrow", [up], to=TensorProto.FLOAT)
    last = graph.op("Conv", "last", [narrow, graph.constant("last.w", kernel.astype(np.float32))])
    with pytest.raises(ModelError, match=r"quantisation failed: .*ConvTranspose") as caught:
        quantise(graph.model(last), random_calibration(graph.shape))
    assert "quantise the model beforehand" in caught.value.hint


def test_a_model_without_anything_to_quantise_says_so() -> None:
    graph = QdqGraph((1, 4))
    with pytest.raises(ModelError, match="no operator of this model can be quantised"):
        quantise(graph.model(graph.op("Sin", "s", ["input"])), random_calibration(graph.shape))
