"""Partition and memory plan: shapes alone decide, nothing exceeds SRAM, refusals name the node."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lanefit.common.errors import UnsupportedError
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph
from lanefit.export.partition import partition
from lanefit.export.plan import plan
from lanefit.export.random_graphs import GraphBuilder, random_graph, random_spec
from lanefit.kernels.ops import Add, Conv2d, Window
from lanefit.kernels.subgraph import Kind, Memory
from lanefit.targets.spec import load_spec, preset_names

NE256, NE1024 = load_spec("ne-256"), load_spec("ne-1024")
PRESETS = [load_spec(name) for name in preset_names()]
seeds = st.integers(0, 2**31)


def _bottleneck(size: int, channels: int, *, residual: bool = True) -> Graph:
    """entry → expand → depthwise → project (+ entry) → exit on a square map."""
    build = GraphBuilder(np.random.default_rng(0))
    narrow, wide = (size, size, channels), (size, size, channels * 6)
    source = build.tensor("input", narrow, 0.1)
    entry = build.add_node(Conv2d(narrow, narrow, Window(1, 1)), source)
    expand = build.add_node(Conv2d(narrow, wide, Window(1, 1)), entry)
    depthwise = build.add_node(Conv2d(wide, wide, Window(3, 3, 1, 1, 1, 1), depthwise=True), expand)
    last = build.add_node(Conv2d(wide, narrow, Window(1, 1)), depthwise)
    if residual:
        last = build.add_node(Add(narrow), entry, last)
    return build.graph((build.add_node(Conv2d(narrow, narrow, Window(1, 1)), last),))


def test_an_addition_joins_the_convolution_that_feeds_it() -> None:
    groups = partition(_bottleneck(8, 16), NE256)
    joined = next(group for group in groups if group.residual)
    assert [type(node.op) for node in joined.nodes] == [Conv2d, Add]
    assert joined.second == "conv2d0:0"


def test_a_bottleneck_whose_maps_fit_stays_in_whole_map_steps() -> None:
    kinds = {step.subgraph.kind for step in plan(_bottleneck(8, 16), NE256).steps}
    assert Kind.INVERTED_BOTTLENECK not in kinds


def test_a_bottleneck_whose_maps_do_not_fit_becomes_one_chain() -> None:
    steps = plan(_bottleneck(112, 16), NE256).steps
    chain = next(step for step in steps if step.subgraph.kind is Kind.INVERTED_BOTTLENECK)
    assert len(chain.group.nodes) == 4
    assert chain.subgraph.second is not None


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_every_node_is_placed_exactly_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_ops=12)
    try:
        groups = partition(graph, random_spec(rng, PRESETS, graph))
    except UnsupportedError:
        return
    assert sorted(node.name for group in groups for node in group.nodes) == sorted(node.name for node in graph.nodes)


@settings(max_examples=60, deadline=None)
@given(seeds)
@example(2525)
def test_a_plan_depends_on_shapes_alone_and_fits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_ops=12)
    spec = random_spec(rng, PRESETS, graph)
    shapes_only = replace(graph, constants={})
    try:
        found = plan(graph, spec)
    except UnsupportedError:
        with pytest.raises(UnsupportedError, match="at node '"):
            plan(shapes_only, spec)
        return
    assert found == plan(shapes_only, spec)
    assert found.sram_bytes <= spec.sram_bytes
    resident = [name for name, memory in found.where.items() if memory is Memory.SRAM]
    assert all(found.addresses[name] + graph.tensors[name].size_bytes <= found.sram_bytes for name in resident)


def test_a_limit_below_the_engines_sram_is_kept() -> None:
    graph = _bottleneck(32, 16)
    free = plan(graph, NE256).sram_bytes
    assert plan(graph, NE256, sram_limit_bytes=free // 2).sram_bytes <= free // 2


@pytest.mark.parametrize("size", [28, 56])
def test_a_limit_plans_like_an_engine_with_that_much_sram(size: int) -> None:
    graph, limit = _bottleneck(size, 64), 128 * 1024
    smaller = replace(NE256, sram_bytes=limit, sram_banks=NE256.sram_banks)
    limited, small = plan(graph, NE256, sram_limit_bytes=limit), plan(graph, smaller)
    assert [step.subgraph for step in limited.steps] == [step.subgraph for step in small.steps]
    assert limited.sram_bytes == small.sram_bytes <= limit


def test_a_pointwise_convolution_in_front_leaves_the_bottleneck_whole() -> None:
    steps = plan(_bottleneck(56, 32), NE256).steps
    chain = next(step for step in steps if len(step.group.ops) > 1)
    assert [op.depthwise for op in chain.group.ops if isinstance(op, Conv2d)] == [False, True, False]


def test_an_impossible_limit_names_the_node_and_the_way_out() -> None:
    with pytest.raises(UnsupportedError, match="does not fit into SRAM") as caught:
        plan(_bottleneck(32, 16), NE256, sram_limit_bytes=64)
    assert caught.value.where.startswith("node ")
    assert "CPU" in caught.value.hint


def test_a_residual_is_replaced_in_place() -> None:
    found = plan(_bottleneck(16, 16), NE256)
    assert found.addresses["add4:0"] == found.addresses["conv2d0:0"]


def test_weights_load_during_the_step_before_where_memory_allows() -> None:
    steps = plan(_bottleneck(16, 16), NE256).steps
    assert all(step.prefetch for step in steps[1:])
    assert not steps[0].prefetch


def _weighty(layers: int, channels: int) -> Graph:
    """Three convolutions of a large map, then some of a small one whose weights take longer to load than to use."""
    build = GraphBuilder(np.random.default_rng(0))
    large, small = (32, 32, 16), (2, 2, channels)
    source = build.tensor("input", large, 0.1)
    for _ in range(3):
        source = build.add_node(Conv2d(large, large, Window(3, 3, 1, 1, 1, 1)), source)
    source = build.add_node(Conv2d(large, small, Window(4, 4, 16, 16)), source)
    for _ in range(layers):
        source = build.add_node(Conv2d(small, small, Window(1, 1)), source)
    return build.graph((source,))


@pytest.mark.parametrize("preset", ["ne-256", "ne-1024", "ethos-u55-128"])
def test_prefetch_raises_the_peak_where_that_saves_much_time(preset: str) -> None:
    graph, spec = _weighty(6, 128), load_spec(preset)
    ample, tight = compile_graph(graph, spec), compile_graph(graph, spec, sram_limit_bytes=64 * 1024)
    assert ample.sram_bytes > tight.sram_bytes
    saved = tight.timing.cycles / ample.timing.cycles
    assert saved > (ample.sram_bytes / tight.sram_bytes) ** 0.1


def test_prefetch_leaves_the_peak_alone_where_most_of_the_wait_would_stay() -> None:
    """Twelve steps, each bound by its weights: running ahead hides the first of them and moves the others."""
    ample = compile_graph(_weighty(12, 256), NE1024)
    limited = compile_graph(_weighty(12, 256), NE1024, sram_limit_bytes=ample.sram_bytes)
    assert ample.sram_bytes < 0.15 * NE1024.sram_bytes
    assert limited.timing.cycles == pytest.approx(ample.timing.cycles, rel=0.01)


def test_where_no_map_can_leave_sram_a_longer_chain_is_the_last_resort() -> None:
    spec = replace(NE256, name="ne-256-bound", sram_bytes=96 * 1024, spill=False, io_memory="sram")
    found = plan(_bottleneck(56, 16), spec)
    assert not found.spilled()
    assert max(len(step.group.ops) for step in found.steps) >= 3
    with pytest.raises(UnsupportedError, match="cannot leave it") as caught:
        plan(_bottleneck(56, 16), replace(spec, sram_bytes=32 * 1024))
    assert caught.value.where.startswith("node ")
