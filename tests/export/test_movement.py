"""Operators that move elements: what becomes a view, what is copied, and the bits of the result."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lanefit.common.errors import ModelError, UnsupportedError
from lanefit.common.optimise import Optimise
from lanefit.export.blank import with_zero_weights
from lanefit.export.compiler import Compiled, compile_graph
from lanefit.export.graph import Graph, Node, Quantisation, Tensor, View
from lanefit.export.movement import expand, expansions
from lanefit.export.random_graphs import GraphBuilder, random_graph, random_inputs, random_spec
from lanefit.export.reference import run_graph, to_host
from lanefit.kernels.movement_ops import Concat, DepthToSpace, Movement, Pad, Slice, Transpose, TransposedConv2d
from lanefit.kernels.ops import Add, Conv2d, Op, Pool2d, Shape, Window
from lanefit.targets.emulator import Emulator
from lanefit.targets.spec import EngineSpec, load_spec, preset_names

NE256 = load_spec("ne-256")
PRESETS = [load_spec(name) for name in preset_names()]
MAP: Shape = (12, 10, 16)


def _conv(shape: Shape, channels: int, kernel: int = 3) -> Conv2d:
    pad = kernel // 2
    return Conv2d(shape, (*shape[:2], channels), Window(kernel, kernel, 1, 1, pad, pad))


def _graph(*nodes: tuple[str, Op | Movement, tuple[str, ...]], shape: Shape = MAP, outputs: int = 1) -> Graph:
    """Nodes as (output, operator, inputs) with one quantisation throughout; the last ones are outputs."""
    same = Quantisation(0.05, 3)
    tensors = {"input": Tensor("input", shape, same, (shape[2], *shape[:2]))}
    for name, op, _ in nodes:
        tensors[name] = Tensor(name, op.output, same, (op.output[2], *op.output[:2]))
    made = tuple(Node(f"{name}.node", op, inputs, name) for name, op, inputs in nodes)
    return Graph(made, tensors, ("input",), tuple(name for name, _, _ in nodes[-outputs:]))


def _weighted(graph: Graph) -> Graph:
    build = GraphBuilder(np.random.default_rng(0))
    blank = with_zero_weights(graph).constants
    weights = {n: replace(c, weights=build._weights(c.weights.shape), scales=c.scales * 0.02) for n, c in blank.items()}
    return replace(graph, constants=weights)


def _compiled(graph: Graph, spec: EngineSpec = NE256) -> Compiled:
    return compile_graph(_weighted(graph), spec)


def _assert_bits(graph: Graph, spec: EngineSpec, order: str = "program", optimise: Optimise = Optimise.LATENCY) -> None:
    inputs = random_inputs(np.random.default_rng(1), graph, 2)
    program = compile_graph(graph, spec, optimise=optimise).program
    device = Emulator(program, order=order).run({n: to_host(v, graph.tensors[n]) for n, v in inputs.items()})
    for name, value in run_graph(graph, inputs).items():
        np.testing.assert_array_equal(device[name], to_host(value, graph.tensors[name]), err_msg=name)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(seed=st.integers(0, 2**31), order=st.sampled_from(["program", "dma-first", "compute-first", "random"]))
def test_the_device_gives_the_bits_of_the_reference_when_graphs_move_maps(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, branching=0.2, moving=0.6, max_ops=7)
    spec = random_spec(rng, PRESETS, graph)
    optimise = Optimise(rng.choice(list(Optimise)))
    try:
        compile_graph(graph, spec, optimise=optimise)
    except UnsupportedError:
        assume(False)
    _assert_bits(graph, spec, order, optimise)


class TestConcatenation:
    def two_convolutions(self, axis: int = 2) -> Graph:
        joined = Concat(((12, 10, 8), (12, 10, 8)), axis)
        nodes = [(name, _conv(MAP, 8), ("input",)) for name in "ab"]
        return _graph(*nodes, ("whole", joined, ("a", "b")), ("end", _conv(joined.output, 4), ("whole",)))

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_operands_with_one_reader_are_written_where_they_belong(self, axis: int) -> None:
        found = _compiled(self.two_convolutions(axis))
        assert (found.copied_bytes, found.free_moves) == (0, 2)
        _assert_bits(_weighted(self.two_convolutions(axis)), NE256)

    def test_a_result_for_the_host_takes_no_copy_either(self) -> None:
        graph = self.two_convolutions()
        graph = Graph(graph.nodes[:3], {n: t for n, t in graph.tensors.items() if n != "end"}, ("input",), ("whole",))
        assert _compiled(graph).copied_bytes == 0
        _assert_bits(_weighted(graph), NE256)

    def test_an_operand_of_another_scale_is_requantised(self) -> None:
        graph = self.two_convolutions()
        other = replace(graph.tensors["a"], quantisation=Quantisation(0.08, -20))
        graph = replace(graph, tensors={**graph.tensors, "a": other})
        found = expand(graph)
        assert set(found.views) == {"whole.part0", "b"}
        assert [node.copies for node in found.nodes if node.output == "whole.part0"] == [False]
        _assert_bits(_weighted(graph), NE256)

    def test_an_operand_of_the_host_is_copied(self) -> None:
        shapes = (MAP, (12, 10, 8))
        graph = _graph(("a", _conv(MAP, 8), ("input",)), ("whole", Concat(shapes, 2), ("input", "a")))
        assert _compiled(graph).copied_bytes == 12 * 10 * 16

    def test_a_map_that_stands_twice_is_copied_once(self) -> None:
        shapes = ((12, 10, 8), (12, 10, 8))
        graph = _graph(
            ("a", _conv(MAP, 8), ("input",)),
            ("whole", Concat(shapes, 2), ("a", "a")),
            ("end", _conv((12, 10, 16), 4), ("whole",)),
        )
        assert _compiled(graph).copied_bytes == 12 * 10 * 8
        _assert_bits(_weighted(graph), NE256)

    def test_nested_ones_lie_in_the_outermost_map(self) -> None:
        graph = _graph(
            ("a", _conv(MAP, 8), ("input",)),
            ("b", _conv((12, 10, 8), 8), ("a",)),
            ("ab", Concat(((12, 10, 8), (12, 10, 8)), 2), ("a", "b")),
            ("c", _conv((12, 10, 16), 8), ("ab",)),
            ("abc", Concat(((12, 10, 16), (12, 10, 8)), 2), ("ab", "c")),
            ("end", _conv((12, 10, 24), 4), ("abc",)),
        )
        views = expand(graph).views
        assert {view.whole for view in views.values()} == {"abc"}
        assert (views["b"].start, views["c"].start) == ((0, 0, 8), (0, 0, 16))
        assert _compiled(graph).copied_bytes == 0
        _assert_bits(_weighted(graph), NE256)

    def test_an_early_operand_may_also_wait_alone(self) -> None:
        graph = _graph(
            ("skip", _conv(MAP, 16), ("input",)),
            ("mid", _conv(MAP, 16), ("skip",)),
            ("whole", Concat((MAP, MAP), 2), ("skip", "mid")),
            ("end", _conv((12, 10, 32), 4), ("whole",)),
        )
        shared, apart = expansions(graph)
        assert "skip" in shared.views
        assert "skip" not in apart.views
        inputs = random_inputs(np.random.default_rng(1), graph, 2)
        given_inputs = {n: to_host(v, graph.tensors[n]) for n, v in inputs.items()}
        expected = run_graph(_weighted(graph), inputs)["end"]
        for form in (shared, apart):
            device = Emulator(compile_graph(_weighted(form), NE256).program).run(given_inputs)
            np.testing.assert_array_equal(device["end"], to_host(expected, graph.tensors["end"]))


class TestSlices:
    @pytest.mark.parametrize(
        "op",
        [
            Slice(MAP, (12, 10, 5), (0, 0, 3)),
            Slice(MAP, (4, 10, 16), (5, 0, 0)),
            Slice(MAP, (6, 5, 16), (1, 0, 0), (2, 2)),
            Transpose(MAP),
        ],
        ids=["channels", "rows", "every second", "transpose"],
    )
    def test_readers_get_a_view(self, op: Slice | Transpose) -> None:
        graph = _graph(("a", _conv(MAP, 16), ("input",)), ("part", op, ("a",)), ("end", _conv(op.output, 8), ("part",)))
        found = _compiled(graph)
        assert (found.copied_bytes, found.free_moves) == (0, 1)
        _assert_bits(_weighted(graph), NE256)

    def test_only_what_the_host_takes_is_copied(self) -> None:
        graph = _graph(("a", _conv(MAP, 16), ("input",)), ("part", Slice(MAP, (12, 10, 5), (0, 0, 3)), ("a",)))
        assert _compiled(graph).copied_bytes == 12 * 10 * 5

    def test_a_slice_beyond_the_map_is_refused(self) -> None:
        with pytest.raises(UnsupportedError, match=r"leaves the \(12, 10, 16\) map"):
            Slice(MAP, (12, 10, 5), (0, 0, 12))


class TestPadding:
    pad = Pad(MAP, (15, 13, 16), 1, 2)

    def test_a_convolution_reads_it_from_its_window(self) -> None:
        conv = Conv2d(self.pad.output, (7, 6, 8), Window(3, 3, 2, 2))
        graph = _graph(("padded", self.pad, ("input",)), ("end", conv, ("padded",)))
        (node,) = expand(graph).nodes
        assert isinstance(node.op, Conv2d)
        assert (node.op.input, node.op.window) == (MAP, Window(3, 3, 2, 2, 1, 2))
        _assert_bits(_weighted(graph), NE256)

    def test_for_a_maximum_the_zeros_are_written(self) -> None:
        pool = Pool2d(self.pad.output, (13, 11, 16), Window(3, 3), maximum=True)
        graph = _graph(("padded", self.pad, ("input",)), ("end", pool, ("padded",)))
        assert [node.op.pads for node in expand(graph).nodes if isinstance(node.op, Pool2d)] == [True, False]
        _assert_bits(_weighted(graph), NE256)


class TestTransposedConvolution:
    @pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
    @pytest.mark.parametrize("stride", [1, 2, 3])
    @pytest.mark.parametrize("depthwise", [False, True])
    def test_phases_have_the_bits_of_the_scatter_definition(self, kernel: int, stride: int, depthwise: bool) -> None:
        pad = (kernel - 1) // 2
        size = [(n - 1) * stride - 2 * pad + max(kernel, 1) for n in (6, 5)]
        op = TransposedConv2d(
            (6, 5, 8), (size[0], size[1], 8), Window(kernel, kernel, stride, stride, pad, pad), depthwise
        )
        build = GraphBuilder(np.random.default_rng(kernel))
        build.tensor("input", (6, 5, 8), 0.05)
        graph = build.graph((build.add_node(op, "input"),))
        _assert_bits(graph, NE256)

    def test_no_product_is_wasted(self) -> None:
        op = TransposedConv2d(MAP, (24, 20, 8), Window(4, 4, 2, 2, 1, 1))
        found = expand(_graph(("end", op, ("input",))))
        convs = [node.op for node in found.nodes if isinstance(node.op, Conv2d)]
        assert len(convs) == 4
        assert sum(conv.macs for conv in convs) == op.macs

    def test_outputs_beyond_the_reach_of_every_tap_are_refused(self) -> None:
        op = TransposedConv2d(MAP, (40, 20, 8), Window(2, 2, 2, 2))
        with pytest.raises(UnsupportedError, match="outside of the"):
            expand(_graph(("end", op, ("input",))))


class TestBlocks:
    def test_depth_to_space_for_the_host_is_put_together_in_sram(self) -> None:
        graph = _graph(("deep", _conv(MAP, 16), ("input",)), ("end", DepthToSpace(MAP, 2), ("deep",)))
        found = _compiled(graph)
        assert found.copied_bytes == 2 * 12 * 10 * 16
        _assert_bits(_weighted(graph), NE256)


class TestGraphs:
    def test_a_part_is_known_before_its_whole_is(self) -> None:
        first = _graph(("a", _conv(MAP, 16), ("input",)), ("b", Add(MAP), ("a", "a")), ("c", Add(MAP), ("b", "b")))
        tensors = {**first.tensors, "whole": Tensor("whole", (12, 10, 32))}
        views = {"a": View("whole"), "c": View("whole", (0, 0, 16))}
        assert replace(first, tensors=tensors, views=views, outputs=("b",)).makers("whole") == ("a", "c")
        eager = (first.nodes[0], replace(first.nodes[1], inputs=("a", "whole")), first.nodes[2])
        with pytest.raises(ModelError, match="'whole' is used before it is produced"):
            replace(first, nodes=eager, tensors=tensors, views=views, outputs=("b",))

    def test_the_host_takes_no_parts(self) -> None:
        graph = _graph(("a", _conv(MAP, 16), ("input",)))
        with pytest.raises(ModelError, match="the host takes whole maps"):
            replace(graph, views={"a": View("whole")}, tensors={**graph.tensors, "whole": graph.tensors["a"]})

    def test_views_of_views_are_views_of_the_whole(self) -> None:
        inner = View("a", (1, 2, 3), (2, 0, 0), (0, 3, 0)).inside(View("b", (5, 6, 7), (0, 1, 0), (1, 0, 0)))
        assert inner.whole == "b"
        outer = View("b", (5, 6, 7), (0, 1, 0), (1, 0, 0))
        row, col, channel = View("a", (1, 2, 3), (2, 0, 0), (0, 3, 0)).at(4, 5, 6)
        assert inner.at(4, 5, 6) == outer.at(row, col, channel)

    def test_no_kernel_takes_a_movement_that_was_not_expanded(self) -> None:
        from lanefit.export.plan import plan

        with pytest.raises(UnsupportedError, match="no kernel runs a Transpose"):
            plan(_graph(("t", Transpose(MAP), ("input",))), NE256)
