"""Graphs of mixed precision: what they mean, and that engines compute just that."""

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lanefit.common.errors import ConfigError, LanefitError, ModelError, UnknownNameError, UnsupportedError
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import ConvConstants, Graph, Node, Tensor
from lanefit.export.precision import Precision, parse_override, with_precision
from lanefit.export.random_graphs import random_graph, random_inputs, random_spec
from lanefit.export.reference import run_graph, to_host
from lanefit.kernels.element_types import PRECISIONS, full_range
from lanefit.kernels.ops import Conv2d, Window
from lanefit.targets.elements import rounded_to_bf16
from lanefit.targets.emulator import Emulator
from lanefit.targets.spec import load_spec
from lanefit.targets.timing import simulate

PRESETS = [load_spec(name) for name in ("ne-64", "ne-256")]
NAMES = tuple(PRECISIONS)


def random_precision(rng: np.random.Generator, graph: Graph) -> Precision:
    """One precision for all operators, or one each."""
    if rng.random() < 0.4:
        return Precision(str(rng.choice(NAMES[1:])))
    return Precision("int8", tuple((node.name, str(rng.choice(NAMES))) for node in graph.nodes))


def outputs_of_engine(graph: Graph, inputs: dict[str, NDArray], seed: int) -> dict[str, NDArray]:
    rng = np.random.default_rng(seed)
    spec = random_spec(rng, PRESETS, graph)
    try:
        compiled = compile_graph(graph, spec)
    except LanefitError:  # a map's smallest tile may exceed a random SRAM
        compiled = compile_graph(graph, PRESETS[1])
    order = str(rng.choice(["program", "dma-first", "compute-first", "random"]))
    host = {name: to_host(value, graph.tensors[name]) for name, value in inputs.items()}
    return Emulator(compiled.program, order=order, seed=seed).run(host)


@pytest.mark.parametrize("seed", range(60))
def test_the_engine_computes_mixed_precision_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, branching=0.15, functions=0.3, moving=0.25)
    typed = with_precision(graph, random_precision(rng, graph))
    inputs = random_inputs(rng, graph, 2)
    try:
        found = outputs_of_engine(typed, inputs, seed)
    except UnsupportedError as error:  # random scales and tables, which no network has
        if not re.search("int16 range between two points|beyond the int32 of a RESCALE|beyond int32", error.what):
            raise
        return
    expected = run_graph(typed, inputs)
    for name, value in found.items():
        np.testing.assert_array_equal(value, to_host(expected[name], typed.tensors[name]), err_msg=name)


def wide_ports(graph: Graph, dtype: str) -> Graph:
    """The graph without the conversions at its ends: the host gives and takes wide maps."""
    typed = with_precision(graph, Precision({"int16": "int8x16", "bf16": "bf16"}[dtype]))
    inner = {n.output for n in typed.nodes} - {n for n in graph.outputs}
    nodes = tuple(n for n in typed.nodes if n.output not in graph.outputs and n.inputs[0] not in graph.inputs)
    outputs = tuple(f"{name}@{dtype}" for name in graph.outputs)
    kept = {name: t for name, t in typed.tensors.items() if t.dtype == dtype}
    assert inner
    inputs = tuple(f"{name}@{dtype}" for name in graph.inputs)
    return replace(typed, nodes=nodes, tensors=kept, inputs=inputs, outputs=outputs)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", ["int16", "bf16"])
def test_ports_may_be_wide(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    graph = wide_ports(random_graph(rng), dtype)
    inputs: dict[str, NDArray] = {}
    for name in graph.inputs:
        shape = (2, *graph.tensors[name].shape)
        if dtype == "int16":
            inputs[name] = rng.integers(-(2**15), 2**15, shape).astype(np.int16)
        else:
            inputs[name] = (rng.standard_normal(shape) * 3).astype(np.float32)
    expected = run_graph(graph, inputs)
    for name, value in outputs_of_engine(graph, inputs, seed).items():
        np.testing.assert_array_equal(value, to_host(expected[name], graph.tensors[name]), err_msg=name)


@pytest.mark.parametrize("seed", range(12))
def test_int16_maps_change_a_result_by_no_more_than_its_rounding(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), max_ops=1)
    first = graph.nodes[0]
    single = replace(graph, nodes=(first,), outputs=(first.output,), inputs=tuple(dict.fromkeys(first.inputs)))
    inputs = random_inputs(np.random.default_rng(seed), single, 2)
    plain, wide = (run_graph(with_precision(single, Precision(p)), inputs) for p in ("int8", "int8x16"))
    assert np.abs(wide[first.output].astype(int) - plain[first.output]).max() <= 1


@pytest.mark.parametrize("depthwise", [False, True], ids=["dense", "depthwise"])
@pytest.mark.parametrize("seed", range(10))
def test_bf16_convolutions_stay_within_their_bound_of_float64(seed: int, depthwise: bool) -> None:
    """|result − exact| <= (n + 1) × 2^−23 × Σ|x × w| + 2^−8 × |exact| for n float32 additions and one rounding."""
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 70))
    conv = Conv2d((9, 8, channels), (9, 8, channels), Window(3, 3, 1, 1, 1, 1), depthwise, "bf16")
    depth = 1 if depthwise else channels
    weights = rounded_to_bf16(rng.standard_normal((channels, 3, 3, depth)).astype(np.float32))
    bias = rng.standard_normal(channels).astype(np.float32)
    ends = {name: Tensor(name, conv.input, host_shape=(channels, 9, 8), dtype="bf16") for name in "xy"}
    node = Node("conv", conv, ("x",), "y", full_range("bf16"))
    graph = Graph((node,), ends, ("x",), ("y",), {"conv": ConvConstants(weights, bias, np.ones(channels))})
    scale = np.float32(10.0) ** rng.integers(-8, 9)
    x = rounded_to_bf16((rng.standard_normal((1, 9, 8, channels)) * scale).astype(np.float32))
    (y,) = outputs_of_engine(graph, {"x": x}, seed).values()
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # n h w c y x
    pattern = "nhwcyx,cyxi->nchw" if depthwise else "nhwiyx,cyxi->nchw"
    exact = np.einsum(pattern, windows, weights.astype(np.float64)) + bias[:, None, None]
    magnitude = np.einsum(pattern, np.abs(windows), np.abs(weights).astype(np.float64)) + np.abs(bias)[:, None, None]
    allowed = (9 * depth + 1) * 2.0**-23 * magnitude + 2.0**-8 * np.abs(exact)
    assert (np.abs(y - exact) <= allowed).all()


def test_a_wider_type_takes_longer_and_moves_more() -> None:
    graph = random_graph(np.random.default_rng(3))
    spec = load_spec("ne-256")
    found = {}
    for name in NAMES:
        compiled = compile_graph(with_precision(graph, Precision(name)), spec)
        assert simulate(compiled.program).cycles == compiled.timing.cycles
        found[name] = compiled
    assert found["int8"].timing.cycles < found["int8x16"].timing.cycles < found["bf16"].timing.cycles
    assert found["int8"].weight_bytes == found["int8x16"].weight_bytes < found["bf16"].weight_bytes


def test_patterns_choose_by_operator_and_the_first_one_wins() -> None:
    graph = random_graph(np.random.default_rng(3))
    names = [node.name for node in graph.nodes]
    precision = Precision("bf16", ((names[0], "int8"), ("conv*", "int8x16")))
    chosen = {node.name: precision.of(node) for node in graph.nodes}
    assert chosen[names[0]] == "int8"
    assert {p for n, p in chosen.items() if n.startswith("conv") and n != names[0]} <= {"int8x16"}
    assert parse_override("stage=1.*=bf16") == ("stage=1.*", "bf16")
    with pytest.raises(ConfigError, match="'bf16' is not PATTERN=PRECISION"):
        parse_override("bf16")
    with pytest.raises(UnknownNameError, match="fp64"):
        Precision("fp64")


def test_int8_for_all_is_the_graph_itself() -> None:
    graph = random_graph(np.random.default_rng(0))
    assert with_precision(graph, Precision()) is graph


def test_operators_and_maps_must_agree_on_types() -> None:
    graph = random_graph(np.random.default_rng(0))
    node = graph.nodes[0]
    wrong = Node(node.name, replace(node.op, dtype="bf16"), node.inputs, node.output)  # type: ignore[call-arg]
    with pytest.raises(ModelError, match="holds int8, the operator works on bf16"):
        replace(graph, nodes=(wrong, *graph.nodes[1:]))
