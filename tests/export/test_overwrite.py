"""An output that overwrites its input with a lag: never a row that is still read, less SRAM, the same bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import UnsupportedError
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph
from lanefit.export.overwrite import lags
from lanefit.export.plan import plan
from lanefit.export.random_graphs import GraphBuilder, random_inputs
from lanefit.export.reference import run_graph
from lanefit.kernels.ops import Conv2d, Op, Pool2d, Window
from lanefit.kernels.subgraph import Memory, Subgraph
from lanefit.targets.emulator import Emulator
from lanefit.targets.spec import load_spec

NE256 = load_spec("ne-256")
SRAM = Memory.SRAM


def _op(rng: np.random.Generator, source: tuple[int, int, int]) -> Op:
    height, width, channels = source
    kernel, stride = int(rng.choice([1, 3, 3, 5])), int(rng.choice([1, 1, 2]))
    window = Window(kernel, kernel, stride, stride, kernel // 2, kernel // 2)
    size = (-(-height // stride), -(-width // stride))
    match rng.integers(4):
        case 0:
            return Conv2d(source, (*size, channels), window, depthwise=True)
        case 1:
            return Pool2d(source, (*size, channels), window, maximum=True)
        case _:
            return Conv2d(source, (*size, int(rng.integers(1, 24))), window)


def _run_of_operators(seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    build = GraphBuilder(rng)
    current = build.tensor(
        "input", (int(rng.integers(9, 24)), int(rng.integers(3, 12)), int(rng.integers(1, 17))), 0.05
    )
    for _ in range(int(rng.integers(3, 7))):
        current = build.add_node(_op(rng, build.tensors[current].shape), current)
    return build.graph((current,))


@given(st.integers(0, 2**31), st.booleans())
def test_no_stripe_overwrites_what_it_or_a_later_one_reads(seed: int, bottom_up: bool) -> None:
    rng = np.random.default_rng(seed)
    op = _op(rng, (int(rng.integers(2, 40)), int(rng.integers(1, 9)), int(rng.integers(1, 20))))
    assert isinstance(op, Conv2d | Pool2d)
    in_row, out_row = op.input[1] * op.input[2], op.output[1] * op.output[2]
    for lag in lags(Subgraph((op,), SRAM, SRAM), NE256):
        tiling = lag.choice.tiling
        if tiling.bottom_up != bottom_up:
            continue
        stripes = [(a, min(op.output[0], a + tiling.rows)) for a in range(0, op.output[0], tiling.rows)]
        for number, (a, b) in enumerate(stripes):
            written = range(lag.shift + a * out_row, lag.shift + b * out_row)
            later = stripes[: number + 1] if bottom_up else stripes[number:]
            first = min(max(0, c * op.window.stride_h - op.window.pad_h) for c, _ in later) * in_row
            last = max((d - 1) * op.window.stride_h - op.window.pad_h + op.window.kernel_h for _, d in later)
            assert written.stop <= first or written.start >= min(op.input[0], last) * in_row


def _to_host(graph: Graph, name: str, value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value.transpose(0, 3, 1, 2)).reshape(len(value), *graph.tensors[name].host_shape or ())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["random", "compute-first"]), st.floats(0.3, 1.0))
def test_tight_memory_changes_no_bit(seed: int, order: str, share: float) -> None:
    graph = _run_of_operators(seed)
    limit = int(plan(graph, NE256).sram_bytes * share)
    try:
        compiled = compile_graph(graph, NE256, sram_limit_bytes=limit)
    except UnsupportedError:
        return
    assert compiled.sram_bytes <= limit
    inputs = random_inputs(np.random.default_rng(seed), graph, 2)
    host = {name: _to_host(graph, name, value) for name, value in inputs.items()}
    device = Emulator(compiled.program, order=order, seed=seed).run(host)
    expected = run_graph(graph, inputs)
    for name in graph.outputs:
        np.testing.assert_array_equal(device[name], _to_host(graph, name, expected[name]))


@pytest.mark.parametrize("depthwise", [True, False])
def test_a_run_of_equal_maps_needs_little_more_than_one_of_them(depthwise: bool) -> None:
    build = GraphBuilder(np.random.default_rng(0))
    shape = (48, 8, 32)
    current = build.add_node(Conv2d((48, 8, 4), shape, Window(1, 1)), build.tensor("input", (48, 8, 4), 0.1))
    for _ in range(5):
        window = Window(3, 3, 1, 1, 1, 1) if depthwise else Window(1, 1)
        current = build.add_node(Conv2d(shape, shape, window, depthwise), current)
    graph = build.graph((build.add_node(Conv2d(shape, (48, 8, 2), Window(1, 1)), current),))
    one_map = 48 * 8 * 32
    found = plan(graph, NE256, sram_limit_bytes=int(1.5 * one_map))
    assert found.sram_bytes <= 1.5 * one_map
    assert not found.spilled()
    directions = [step.choice.tiling.bottom_up for step in found.steps if step.choice.tiling.rows < 48]
    assert True in directions
    assert False in directions
