"""Cuboid attention in bf16: the bits of its definition, within the bound of float64, chosen by precision."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import UnsupportedError
from lanefit.export.compiler import compile_graph
from lanefit.export.float_bounds import float64_results
from lanefit.export.graph import Graph
from lanefit.export.precision import Precision, with_precision
from lanefit.export.random_attention import attend
from lanefit.export.random_graphs import GraphBuilder
from lanefit.export.reference import run_region
from lanefit.kernels.cuboid_float import FloatAttention
from lanefit.kernels.cuboid_op import CuboidAttention
from lanefit.targets.elements import rounded_to_bf16
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import DType, Opcode
from lanefit.targets.spec import load_spec


def drawn(seed: int, *, vectors: bool = False) -> Graph:
    """A map and one layer on it, with global vectors or without."""
    rng = np.random.default_rng(seed)
    while True:
        build = GraphBuilder(rng)
        shape = (int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.choice([1, 3, 8, 12, 16])))
        output = attend(build, build.tensor("x", shape, 0.05))
        if bool(build.nodes[0].extra) == vectors:
            return build.graph((output, *build.nodes[0].extra))


def alone(graph: Graph) -> Graph:
    """The layer in bf16 between maps of the host in bf16."""
    wide = with_precision(graph, Precision("bf16"))
    node = replace(next(n for n in wide.nodes if isinstance(n.op, CuboidAttention)), clamp=(-np.inf, np.inf))
    tensors = {name: wide.tensors[name] for name in (*node.inputs, node.output)}
    return Graph((node,), tensors, node.inputs, (node.output,), {node.name: wide.constants[node.name]})


def values(seed: int, graph: Graph) -> np.ndarray:
    """Two runs of the only input in the host's order, around a drawn magnitude."""
    rng = np.random.default_rng(seed)
    tensor = graph.tensors[graph.inputs[0]]
    real = rng.standard_normal((2, *tensor.host_shape)) * 2.0 ** rng.uniform(-4, 6)
    return rounded_to_bf16(real.astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["program", "dma-first", "compute-first", "random"]))
def test_the_engine_computes_the_definition_within_the_bound_of_float64(seed: int, order: str) -> None:
    graph = alone(drawn(seed))
    (source,), (output,) = graph.inputs, graph.outputs
    x = values(seed, graph)
    found = Emulator(compile_graph(graph, load_spec("ne-256")).program, order=order, seed=seed).run({source: x})[output]
    np.testing.assert_array_equal(found, run_region(graph, {source: x})[output])
    rows = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x.reshape(len(x), 1, 1, -1)
    device = found.transpose(0, 2, 3, 1) if x.ndim == 4 else found.reshape(len(x), 1, 1, -1)
    assert float64_results(graph, {source: rows}).worst(device) <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_layer_in_bf16_between_int8_maps_gives_the_bits_of_its_reference(seed: int) -> None:
    graph = with_precision(drawn(seed), Precision("bf16"))
    program = compile_graph(graph, load_spec("ne-256")).program
    x = np.random.default_rng(seed).integers(-128, 128, (2, *graph.tensors["x"].host_shape)).astype(np.int8)
    expected = run_region(graph, {"x": x})
    found = Emulator(program).run({"x": x})
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_bf16_is_nearer_to_the_layer_than_int8() -> None:
    graph = drawn(5)
    wide = with_precision(graph, Precision("bf16"))
    (output,), node = graph.outputs, graph.nodes[0]
    x = np.random.default_rng(0).integers(-128, 128, (2, *graph.tensors["x"].host_shape)).astype(np.int8)
    layer = wide.constants[node.name]
    assert isinstance(layer, FloatAttention)
    narrow, near = (run_region(g, {"x": x})[output].astype(float) for g in (graph, wide))
    assert np.abs(narrow - near).max() < 40
    assert np.abs(narrow - near).max() > 0


def test_padding_is_zero_whatever_lay_there_before() -> None:
    """Bytes of another step may be NaN as bf16; a clamp would keep it."""
    seed = next(s for s in range(200) if _is_padded(drawn(s)))
    graph = alone(drawn(seed))
    program = compile_graph(graph, load_spec("ne-256")).program
    fills = [i.named() for queue in program.queues.values() for i in queue if i.opcode is Opcode.REQUANTISE]
    assert fills
    assert {(f["in_type"], f["out_type"], f["act_min"], f["act_max"]) for f in fills} == {
        (DType.INT16, DType.BF16, 0, 0)
    }


def _is_padded(graph: Graph) -> bool:
    op = graph.nodes[0].op
    return isinstance(op, CuboidAttention) and op.padding == "zeros" and op.cuboids.is_padded


def test_layers_with_global_vectors_stay_int8_and_refuse_more() -> None:
    graph = drawn(0, vectors=True)
    kept = with_precision(graph, Precision("bf16"))
    assert [node.op.dtype for node in kept.nodes if isinstance(node.op, CuboidAttention)] == ["int8"]
    with pytest.raises(UnsupportedError, match="does not work in bf16"):
        with_precision(graph, Precision("int8", (("attention*", "bf16"),)))
    with pytest.raises(UnsupportedError, match="does not work in int8x16"):
        with_precision(drawn(1), Precision("int8", (("attention*", "int8x16"),)))
    with pytest.raises(UnsupportedError, match="with global vectors does not work on bf16"):
        CuboidAttention((2, 2, 2), 4, 1, (2, 1, 1), global_vectors=2, dtype="bf16")
