from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_examples import add, conv, graph, relu, zero

from lanefit.estimator.opgraph.graph import OperatorGraph, OperatorNode
from lanefit.estimator.opgraph.operator import Kind
from lanefit.estimator.opgraph.semantics import Semantics, apply_semantics, is_connected

DEAD_END = graph(("a", conv(), ("x",)), ("b", zero(), ("a",)), ("c", relu(), ("x",)), ("d", add(), ("b", "c")))
"""The convolution `a` reaches the output through a zero only."""
FED_BY_ZEROS = graph(("a", zero(), ("x",)), ("b", conv(), ("a",)), ("c", relu(), ("x",)), ("d", add(), ("b", "c")))
"""The convolution `b` sees zeros only."""


def executed(built: OperatorGraph, semantics: Semantics) -> list[str]:
    return [node.name for node in apply_semantics(built, semantics).nodes if node.operator.executed]


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (DEAD_END, {"nominal": "abcd", "backward": "c", "forward": "ac", "live": "c"}),
        (FED_BY_ZEROS, {"nominal": "abcd", "backward": "bcd", "forward": "c", "live": "c"}),
    ],
)
def test_the_four_semantics_differ_as_defined(built: OperatorGraph, expected: dict[str, str]) -> None:
    assert {str(s): "".join(executed(built, s)) for s in Semantics} == expected


@st.composite
def graphs(draw: st.DrawFn) -> OperatorGraph:
    """Any wiring of zeros, convolutions, ReLUs and sums, dead ends included."""
    nodes: list[OperatorNode] = []
    names = ["x"]
    for number in range(draw(st.integers(1, 12))):
        operator = draw(st.sampled_from([zero(), conv(), relu(), add()]))
        inputs = tuple(draw(st.sampled_from(names)) for _ in operator.inputs)
        nodes.append(OperatorNode(f"n{number}", operator, inputs))
        names.append(f"n{number}")
    return OperatorGraph.of(nodes, {"x": conv().output}, [names[-1]])


@given(graphs(), st.sampled_from(Semantics))
def test_applying_semantics_twice_changes_nothing(built: OperatorGraph, semantics: Semantics) -> None:
    once = apply_semantics(built, semantics)
    assert apply_semantics(once, semantics).digest() == once.digest()


@given(graphs())
def test_live_executes_what_both_others_execute_and_nominal_executes_all(built: OperatorGraph) -> None:
    ran = {semantics: set(executed(built, semantics)) for semantics in Semantics}
    assert ran[Semantics.LIVE] <= ran[Semantics.BACKWARD] & ran[Semantics.FORWARD]
    assert ran[Semantics.BACKWARD] | ran[Semantics.FORWARD] <= ran[Semantics.NOMINAL]
    assert ran[Semantics.NOMINAL] == {node.name for node in built.nodes}


@given(graphs())
def test_live_convolutions_lie_on_a_path_without_zeros(built: OperatorGraph) -> None:
    paths = {"x"}
    for node in built.nodes:
        if node.operator.kind != Kind.ZERO and paths.intersection(node.inputs):
            paths.add(node.name)
    useful = set(built.outputs)
    for node in reversed(built.nodes):
        if node.name in useful and node.operator.kind != Kind.ZERO:
            useful.update(node.inputs)
    ran = {name for name in executed(built, Semantics.LIVE) if built.by_name[name].operator.kind == Kind.CONV}
    convolutions = {node.name for node in built.nodes if node.operator.kind == Kind.CONV}
    assert ran == convolutions & paths & useful


@given(graphs())
def test_a_graph_without_zeros_only_loses_unused_operators(built: OperatorGraph) -> None:
    plain = OperatorGraph.of((n for n in built.nodes if n.operator.kind != Kind.ZERO), {
        **built.sources, **{n.name: n.operator.output for n in built.nodes if n.operator.kind == Kind.ZERO}
    }, built.outputs)  # fmt: skip
    assert apply_semantics(plain, Semantics.FORWARD).digest() == plain.digest()
    assert apply_semantics(plain, Semantics.LIVE).digest() == apply_semantics(plain, Semantics.BACKWARD).digest()


def test_a_network_whose_output_sees_only_zeros_is_disconnected() -> None:
    assert is_connected(DEAD_END)
    assert not is_connected(graph(("a", zero(), ("x",)), ("b", conv(), ("a",))))
    assert not executed(graph(("a", zero(), ("x",)), ("b", conv(), ("a",))), Semantics.LIVE)
