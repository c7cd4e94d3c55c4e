"""What a compiled region reports: no layer below its roofline, and parts that add up to the whole."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lanefit.common.errors import ModelError, UnsupportedError
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph
from lanefit.export.random_graphs import GraphBuilder, random_graph, random_spec
from lanefit.kernels.ops import Conv2d, Pool2d, Window
from lanefit.targets.spec import load_spec, preset_names

NE256 = load_spec("ne-256")
PRESETS = [load_spec(name) for name in preset_names()]


def _single(op: Conv2d | Pool2d) -> Graph:
    build = GraphBuilder(np.random.default_rng(0))
    return build.graph((build.add_node(op, build.tensor("input", op.input, 0.1)),))


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**31))
def test_no_subgraph_and_no_network_is_faster_than_its_roofline(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_ops=10)
    try:
        compiled = compile_graph(graph, random_spec(rng, PRESETS, graph))
    except UnsupportedError:
        assume(False)
    assert all(report.cycles >= report.lower_bound for report in compiled.report)
    assert compiled.timing.cycles >= compiled.lower_bound_cycles
    assert sum(r.cycles - r.hidden_cycles for r in compiled.report) == pytest.approx(compiled.timing.cycles)


@pytest.mark.parametrize(
    "op",
    [
        Pool2d((128, 128, 64), (64, 64, 64), Window(1, 1, 2, 2), maximum=True),
        Pool2d((128, 128, 64), (43, 43, 64), Window(2, 2, 3, 3), maximum=True),
        Conv2d((96, 96, 16), (48, 48, 16), Window(1, 1, 2, 2)),
    ],
)
def test_rows_that_no_window_touches_are_not_compulsory(op: Conv2d | Pool2d) -> None:
    compiled = compile_graph(_single(op), NE256)
    assert compiled.report[0].cycles >= compiled.report[0].lower_bound
    assert compiled.timing.cycles >= compiled.lower_bound_cycles


def test_two_outputs_whose_stores_drain_into_each_other_stay_above_their_rooflines() -> None:
    build = GraphBuilder(np.random.default_rng(0))
    source = build.tensor("input", (16, 16, 16), 0.1)
    heads = [build.add_node(Conv2d((16, 16, 16), (16, 16, n), Window(1, 1)), source) for n in (255, 100, 30)]
    compiled = compile_graph(build.graph(tuple(heads)), NE256)
    assert all(report.cycles >= report.lower_bound for report in compiled.report)


def test_a_graph_without_weights_cannot_be_compiled() -> None:
    graph = _single(Conv2d((4, 4, 3), (4, 4, 8), Window(1, 1)))
    with pytest.raises(ModelError, match="no weights"):
        compile_graph(Graph(graph.nodes, graph.tensors, graph.inputs, graph.outputs), NE256)
