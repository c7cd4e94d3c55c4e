from __future__ import annotations

from operator_examples import MAP, add, conv, graph, relu

from lanefit.estimator.opgraph.operator import Kind, Operator
from lanefit.estimator.opgraph.rewrite import merge_equal, without_unused


def test_equal_operators_of_equal_inputs_become_one_all_the_way_down() -> None:
    twice = graph(
        ("a", relu(), ("x",)), ("b", relu(), ("x",)), ("c", add(), ("a", "x")), ("d", add(), ("b", "x")),
        ("e", add(), ("c", "d")),
    )  # fmt: skip
    merged = merge_equal(twice)
    assert [(node.name, node.inputs) for node in merged.nodes] == [
        ("a", ("x",)), ("c", ("a", "x")), ("e", ("c", "c")),
    ]  # fmt: skip


def test_operators_with_weights_or_hidden_settings_are_kept_apart() -> None:
    half = Operator(Kind.SLICE, (MAP,), (1, 4, 16, 16))
    scaled = Operator(Kind.MUL, (MAP,), MAP)
    for operator in (conv(), half, scaled, Operator(Kind.CLIP, (MAP,), MAP)):
        built = graph(("a", operator, ("x",)), ("b", operator, ("x",)), outputs=("a", "b"))
        joined = graph(*((n.name, n.operator, n.inputs) for n in built.nodes), ("c", relu(), ("x",)))
        assert merge_equal(joined).nodes == joined.nodes


def test_outputs_keep_their_names() -> None:
    built = graph(("a", relu(), ("x",)), ("b", relu(), ("x",)), outputs=("a", "b"))
    assert merge_equal(built).nodes == built.nodes


def test_unused_operators_are_dropped_and_used_ones_are_not() -> None:
    built = graph(("a", relu(), ("x",)), ("b", conv(), ("x",)), ("c", relu(), ("b",)))
    assert [node.name for node in without_unused(built).nodes] == ["b", "c"]
