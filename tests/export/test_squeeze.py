"""`--optimise sram`: less memory at little cost in time, cascades where they make the difference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import UnsupportedError
from lanefit.common.optimise import Optimise
from lanefit.export.cascade import cascades
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph
from lanefit.export.partition import fuse_additions
from lanefit.export.random_graphs import GraphBuilder, random_graph, random_spec
from lanefit.kernels.ops import Add, Conv2d, Window
from lanefit.targets.spec import load_spec, preset_names

NE256 = load_spec("ne-256")
PRESETS = [load_spec(name) for name in preset_names()]


def _mobile_head() -> Graph:
    """Stem → depthwise → 1×1 → expand → depthwise → project → expand → depthwise → project + residual → exit."""
    build = GraphBuilder(np.random.default_rng(0))
    current = build.tensor("input", (64, 64, 3), 0.1)
    same, half = Window(3, 3, 1, 1, 1, 1), Window(3, 3, 2, 2, 1, 1)
    current = build.add_node(Conv2d((64, 64, 3), (64, 64, 16), same), current)
    current = build.add_node(Conv2d((64, 64, 16), (64, 64, 16), same, depthwise=True), current)
    current = build.add_node(Conv2d((64, 64, 16), (64, 64, 8), Window(1, 1)), current)
    current = build.add_node(Conv2d((64, 64, 8), (64, 64, 48), Window(1, 1)), current)
    current = build.add_node(Conv2d((64, 64, 48), (32, 32, 48), half, depthwise=True), current)
    block = build.add_node(Conv2d((32, 32, 48), (32, 32, 8), Window(1, 1)), current)
    current = build.add_node(Conv2d((32, 32, 8), (32, 32, 48), Window(1, 1)), block)
    current = build.add_node(Conv2d((32, 32, 48), (32, 32, 48), same, depthwise=True), current)
    current = build.add_node(Conv2d((32, 32, 48), (32, 32, 8), Window(1, 1)), current)
    current = build.add_node(Add((32, 32, 8)), block, current)
    return build.graph((build.add_node(Conv2d((32, 32, 8), (32, 32, 4), Window(1, 1)), current),))


def test_a_mobile_network_needs_a_fraction_of_the_memory_for_a_twentieth_of_the_time() -> None:
    graph = _mobile_head()
    fast, small = (compile_graph(graph, NE256, optimise=mode) for mode in Optimise)
    assert small.sram_bytes < 0.2 * fast.sram_bytes
    assert small.timing.cycles <= 1.05 * fast.timing.cycles


def test_a_cascade_spans_more_than_one_bottleneck_where_its_maps_are_too_large() -> None:
    graph = _mobile_head()
    found = cascades(graph, fuse_additions(graph), NE256, 32 * 1024)
    assert max(len(group.ops) for group in found) > 3
    assert [n.name for group in found for n in group.nodes] == [n.name for n in graph.nodes]


def test_nothing_is_chained_where_everything_fits() -> None:
    graph = _mobile_head()
    singles = fuse_additions(graph)
    assert cascades(graph, singles, NE256, 10**7) == singles


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_less_sram_costs_a_twentieth_of_the_time_for_half_of_it_and_a_quarter_at_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_ops=8)
    spec = random_spec(rng, PRESETS, graph)
    try:
        fast = compile_graph(graph, spec)
    except UnsupportedError:
        return
    small = compile_graph(graph, spec, optimise=Optimise.SRAM)
    assert small.sram_bytes <= fast.sram_bytes
    assert small.timing.cycles <= 1.25 * fast.timing.cycles
    if small.sram_bytes == fast.sram_bytes:
        assert small.timing.cycles == fast.timing.cycles


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_limit_holds_in_either_mode(share: float) -> None:
    graph = _mobile_head()
    limit = int(share * compile_graph(graph, NE256).sram_bytes)
    for mode in Optimise:
        assert compile_graph(graph, NE256, sram_limit_bytes=limit, optimise=mode).sram_bytes <= limit
