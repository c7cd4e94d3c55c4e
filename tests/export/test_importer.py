"""Import: QDQ patterns become graph nodes whose integer meaning is that of ONNX Runtime, give or take one rounding."""

import numpy as np
import pytest
from export_examples import EveryOperator, Mixed, QdqGraph, conv_graph, int8_model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from lanefit.common.errors import ModelError
from lanefit.export.engines import reference_engine
from lanefit.export.graph import Graph, Node
from lanefit.export.importer import Imported, import_model
from lanefit.export.onnx_model import GraphIndex, model_bytes, parse_model
from lanefit.export.split_run import SplitModel, run_samples, session
from lanefit.export.stages import output_steps
from lanefit.kernels.ops import Add, Conv2d, Pool2d, Requantise, Window

seeds = st.integers(0, 2**32 - 1)


def _steps(model: ModelProto, shape: tuple[int, ...], seed: int = 0, samples: int = 6) -> tuple[Imported, float]:
    """The import, and the largest difference between its integer meaning and ONNX Runtime, in output steps."""
    imported = import_model(model)
    x = np.random.default_rng(seed).standard_normal((samples, *shape[1:]), np.float32) * 2
    split = SplitModel(imported.host, GraphIndex(imported.model).types)
    got = split(reference_engine(imported.regions), {"input": x})
    expected = run_samples(session(imported.model, exact=True), {"input": x})
    steps = output_steps(imported.model)
    return imported, max(float(np.abs(got[n] - expected[n]).max()) / steps[n] for n in expected)


def _engine(imported: Imported) -> list[str]:
    return [
        p.node
        for p in imported.placements
        if p.where == "engine" and p.op_type not in ("QuantizeLinear", "DequantizeLinear")
    ]


def _only_graph(imported: Imported) -> Graph:
    assert len(imported.regions) == 1
    return imported.regions[0].graph


def _only(graph: Graph, kind: type) -> Node:
    (node,) = [node for node in graph.nodes if isinstance(node.op, kind)]
    return node


def test_every_operator_of_the_list_runs_on_the_engine_in_one_region() -> None:
    imported, steps = _steps(int8_model(EveryOperator), EveryOperator.shape, samples=32)
    graph = _only_graph(imported)
    assert {type(node.op) for node in graph.nodes} == {Conv2d, Pool2d, Add}
    assert {p.rule for p in imported.placements if p.where == "cpu"} == {"border"}
    assert steps <= 3


def test_a_linear_layer_after_flatten_reads_the_map_directly() -> None:
    graph = _only_graph(import_model(int8_model(EveryOperator)))
    head = next(node for node in graph.nodes if node.name == "head")
    assert head.op == Conv2d((2, 2, 8), (1, 1, 16), Window(2, 2))
    assert graph.tensors[head.inputs[0]].host_shape == (8, 2, 2)


def test_a_refused_operator_splits_the_network_into_two_regions() -> None:
    imported, steps = _steps(int8_model(Mixed), Mixed.shape, samples=32)
    assert [[node.name for node in r.graph.nodes] for r in imported.regions] == [
        ["first"],
        ["Mul", "second", "ReduceMean", "classify"],
    ]
    refused = {p.node: (p.rule, p.value) for p in imported.placements if p.op_type in ("LogSoftmax", "Mul")}
    assert refused == {"LogSoftmax": ("operator", "LogSoftmax"), "Mul": (None, None)}
    assert steps <= 3


def test_every_onnx_operator_has_exactly_one_placement() -> None:
    imported = import_model(int8_model(Mixed))
    assert [p.node for p in imported.placements] == [node.name for node in imported.model.graph.node]


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_convolutions_of_all_shapes_agree_with_onnx_runtime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    depthwise, kernel, stride = bool(rng.integers(2)), rng.integers(1, 5, 2), rng.integers(1, 4, 2)
    weights = rng.integers(-127, 128, (4, 1 if depthwise else 4, *kernel)).astype(np.int8)
    shape = (1, 4, int(rng.integers(4, 9)), int(rng.integers(4, 9)))
    pads = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    scale = rng.uniform(0.001, 0.01, 4).astype(np.float32)
    options = (
        {"pads": pads} if rng.integers(2) else {"auto_pad": str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))}
    )
    if rng.integers(2):
        options["kernel_shape"] = kernel.tolist()
    model = conv_graph(weights, shape, scale=scale, strides=stride.tolist(), group=4 if depthwise else 1, **options)
    imported, steps = _steps(model, shape, seed)
    assert _engine(imported) == ["conv"]
    assert steps <= 1.001


@pytest.mark.parametrize("op_type", ["Relu", "Clip"])
def test_an_activation_before_the_quantise_becomes_the_clamp_of_its_producer(op_type: str) -> None:
    graph = QdqGraph((1, 4, 6, 6))
    w = graph.weights("w", np.random.default_rng(0).integers(-127, 128, (3, 4, 3, 3)).astype(np.int8), 0.01)
    y = graph.op("Conv", "conv", [graph.pair("input", "x", 0.03, 5), w])
    bounds = [graph.constant("low", np.float32(-0.5)), graph.constant("high", np.float32(1.5))]
    y = graph.op(op_type, "act", [y, *bounds] if op_type == "Clip" else [y])
    imported, steps = _steps(graph.model(graph.pair(y, "y", 0.05, -3)), (1, 4, 6, 6))
    (node,) = _only_graph(imported).nodes
    assert node.clamp == ((-13, 27) if op_type == "Clip" else (-3, 127))
    assert node.source == ("conv", "act", "y.q")
    assert steps <= 1.001


def test_a_lone_activation_is_a_requantisation_with_a_clamp() -> None:
    graph = QdqGraph((1, 4, 6, 6))
    y = graph.op("Relu", "relu", [graph.pair("input", "x", 0.03, 5)])
    imported, steps = _steps(graph.model(graph.pair(y, "y", 0.02, -100)), (1, 4, 6, 6))
    assert _only(_only_graph(imported), Requantise).clamp == (-100, 127)
    assert steps <= 1.001


def test_a_change_of_scale_alone_is_a_requantisation() -> None:
    graph = QdqGraph((1, 4, 6, 6))
    x = graph.pair(graph.pair("input", "x", 0.03, 5), "y", 0.05, 0)
    imported, steps = _steps(graph.model(x), (1, 4, 6, 6))
    assert _only(_only_graph(imported), Requantise).name == "y.q"
    assert steps <= 1.001


def test_a_maximum_with_another_output_scale_is_followed_by_a_requantisation() -> None:
    graph = QdqGraph((1, 4, 6, 6))
    y = graph.op("MaxPool", "pool", [graph.pair("input", "x", 0.03, 5)], kernel_shape=[2, 2], pads=[1, 1, 0, 0])
    imported, steps = _steps(graph.model(graph.pair(y, "y", 0.05, 0)), (1, 4, 6, 6))
    assert [type(node.op) for node in _only_graph(imported).nodes] == [Pool2d, Requantise]
    assert steps <= 1.001


@pytest.mark.parametrize("op_type", ["AveragePool", "GlobalAveragePool", "ReduceMean"])
def test_averages_agree_with_onnx_runtime(op_type: str) -> None:
    graph = QdqGraph((1, 4, 6, 5))
    x = graph.pair("input", "x", 0.03, 5)
    axes = [graph.constant("axes", np.array([-1, -2]))] if op_type == "ReduceMean" else []
    options = {"kernel_shape": [3, 2], "strides": [2, 1]} if op_type == "AveragePool" else {}
    y = graph.op(op_type, "mean", [x, *axes], **options)
    imported, steps = _steps(graph.model(graph.pair(y, "y", 0.01, 0)), (1, 4, 6, 5))
    assert not _only(_only_graph(imported), Pool2d).op.maximum  # pyright: ignore[reportAttributeAccessIssue]
    assert steps <= 1.001


@pytest.mark.parametrize("form", ["Gemm", "Gemm-transposed", "MatMul"])
def test_linear_layers_agree_with_onnx_runtime(form: str) -> None:
    rng = np.random.default_rng(0)
    graph = QdqGraph((1, 3, 4, 2))
    flat = graph.op("Reshape", "flat", [graph.pair("input", "x", 0.03, 5), graph.constant("to", np.array([1, -1]))])
    transposed = form == "Gemm-transposed"
    values = rng.integers(-127, 128, (5, 24) if transposed else (24, 5)).astype(np.int8)
    w = graph.weights("w", values, rng.uniform(0.001, 0.01, 5), axis=0 if transposed else 1)
    bias = [graph.constant("b", rng.standard_normal(5).astype(np.float32))] if form != "MatMul" else []
    y = graph.op(form.split("-")[0], "linear", [flat, w, *bias], **({"transB": 1} if transposed else {}))
    imported, steps = _steps(graph.model(graph.pair(y, "y", 0.05, 0)), (1, 3, 4, 2))
    assert _only(_only_graph(imported), Conv2d).op == Conv2d((4, 2, 3), (1, 1, 5), Window(4, 2))
    assert steps <= 1.001


def test_a_view_that_the_cpu_reads_stays_on_the_cpu() -> None:
    graph = QdqGraph((1, 4, 6, 6))
    x = graph.op("Relu", "relu", [graph.pair("input", "x", 0.03, 5)])
    flat = graph.op("Flatten", "flat", [graph.pair(x, "y", 0.02, 0)])
    imported, steps = _steps(graph.model(flat), (1, 4, 6, 6))
    assert next(p for p in imported.placements if p.node == "flat").rule == "view"
    assert steps <= 1.001


def test_a_demoted_operator_runs_on_the_cpu_with_the_compilers_reason() -> None:
    imported = import_model(int8_model(EveryOperator), demoted={"head": "no tile fits"})
    head = next(p for p in imported.placements if p.node == "head")
    assert (head.where, head.rule, head.value) == ("cpu", "tiling", "no tile fits")
    assert len(imported.regions) == 2


@settings(max_examples=150, deadline=None)
@given(st.floats(0, 0.999), st.integers(1, 255))
def test_a_damaged_model_is_imported_or_refused_and_never_crashes(share: float, mask: int) -> None:
    data = bytearray(model_bytes(int8_model(EveryOperator)))
    data[int(share * len(data))] ^= mask
    try:
        imported = import_model(parse_model(bytes(data), where="net.onnx"))
    except ModelError:
        return
    assert len(imported.placements) == len(imported.model.graph.node)
