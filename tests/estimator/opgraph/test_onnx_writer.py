from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from operator_examples import MAP, add, conv, convolutions, graph, relu, zero

from lanefit.common.errors import UnsupportedError
from lanefit.estimator.opgraph.fusion import EPILOGUES, fuse
from lanefit.estimator.opgraph.fusion_probes import COMMON_PAIRS, COMMON_TRIPLES
from lanefit.estimator.opgraph.fusion_probes import probe_networks as fusion_networks
from lanefit.estimator.opgraph.graph import OperatorGraph
from lanefit.estimator.opgraph.onnx_reader import operator_graph
from lanefit.estimator.opgraph.onnx_writer import single, to_model
from lanefit.estimator.opgraph.operator import Kind, Operator, Window
from lanefit.estimator.opgraph.semantics_probes import probe_networks as semantics_networks
from lanefit.export.onnx_model import model_bytes

VECTOR, TOKENS = (1, 16), (1, 5, 16)
OPERATORS = [
    Operator(Kind.TRANSPOSED, (MAP,), (1, 4, 32, 32), Window.square(3, 2, 1), ((8, 4, 3, 3), (4,))),
    Operator(Kind.CONV, ((1, 8, 20),), (1, 4, 10), Window((1, 4), (1, 2), padding=(0, 1, 0, 1)), ((4, 8, 4),)),
    Operator(Kind.MAX_POOL, (MAP,), (1, 8, 8, 8), Window.square(3, 2, 1)),
    Operator(Kind.AVERAGE_POOL, (MAP,), MAP, Window.square(3, 1, 1)),
    Operator(Kind.GLOBAL_POOL, (MAP,), (1, 8, 1, 1)),
    Operator(Kind.LINEAR, (VECTOR,), (1, 10), weights=((10, 16), (10,))),
    Operator(Kind.LINEAR, (TOKENS,), (1, 5, 10), weights=((10, 16),)),
    Operator(Kind.MATMUL, ((1, 2, 5, 16), (1, 2, 16, 5)), (1, 2, 5, 5)),
    Operator(Kind.ADD, (TOKENS,), TOKENS, weights=((16,),)),
    Operator(Kind.MUL, (MAP, (1, 8, 1, 1)), MAP),
    Operator(Kind.SUB, (MAP, MAP), MAP),
    Operator(Kind.DIV, (MAP,), MAP),
    Operator(Kind.SOFTMAX, (TOKENS,), TOKENS),
    Operator(Kind.LAYER_NORM, (TOKENS,), TOKENS, weights=((16,), (16,))),
    Operator(Kind.BATCH_NORM, (MAP,), MAP, weights=((8,),) * 4),
    Operator(Kind.CONCAT, (MAP, (1, 4, 16, 16)), (1, 12, 16, 16)),
    Operator(Kind.RESHAPE, (MAP,), (1, 2048)),
    *(Operator(kind, (MAP,), MAP) for kind in (Kind.CLIP, Kind.ZERO, Kind.SIGMOID, Kind.TANH, Kind.HARD_SWISH)),
    *(Operator(kind, (MAP,), MAP) for kind in (Kind.RELU, Kind.HARD_SIGMOID, Kind.LEAKY_RELU)),
]


def as_float32(operator: Operator) -> Operator:
    return Operator(operator.kind, operator.inputs, operator.output, operator.window, operator.weights)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: f"{o.kind}-{len(o.output)}d")
def test_an_operator_is_read_back_from_its_model(operator: Operator) -> None:
    (found,) = operator_graph(to_model(single(operator))).operators
    assert found == operator


@given(convolutions())
@settings(max_examples=25, deadline=None)
def test_convolutions_are_read_back_from_their_models(operator: Operator) -> None:
    (found,) = operator_graph(to_model(single(as_float32(operator)))).operators
    assert found == as_float32(operator)


def ran(built: OperatorGraph) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model_bytes(to_model(built)), options, providers=["CPUExecutionProvider"])
    feeds = {name: np.ones(shape, np.float32) for name, shape in built.sources.items()}
    return [np.asarray(value) for value in session.run(None, feeds)]


def test_every_probe_runs_and_gives_the_shape_that_its_graph_says() -> None:
    networks = list(semantics_networks(8, 9).values())
    for rule in (*COMMON_PAIRS, *COMMON_TRIPLES):
        networks += fusion_networks(rule, (1, 8, 9, 9)).values()
    for built in networks:
        (result,) = ran(built)
        assert result.shape == built.shape(built.outputs[0])
        assert np.isfinite(result).all()


def test_the_same_graph_and_seed_give_the_same_bytes() -> None:
    built = graph(("a", conv(), ("x",)), ("b", zero(), ("a",)), ("c", add(), ("b", "x")))
    assert model_bytes(to_model(built)) == model_bytes(to_model(built)) != model_bytes(to_model(built, seed=1))


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (graph(("a", Operator("Softsign", (MAP,), MAP), ("x",))), "'Softsign' cannot be written"),
        (single(Operator(Kind.RELU, (MAP,), MAP, dtype="int8")), "not int8"),
        (fuse(graph(("a", conv(), ("x",)), ("b", relu(), ("a",))), EPILOGUES), "pass of 2 operators"),
        (single(Operator(Kind.LINEAR, (TOKENS,), (1, 5, 4), weights=((4, 16), (4,)))), "no bias"),
    ],
)
def test_what_has_no_onnx_form_is_refused(built: OperatorGraph, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        to_model(built)
