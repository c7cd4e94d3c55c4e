from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_examples import MAP, add, conv, graph, relu

from lanefit.common.errors import EstimatorError
from lanefit.estimator.opgraph.fusion import EPILOGUES, NO_FUSION, FusionRules, fuse
from lanefit.estimator.opgraph.graph import OperatorGraph, OperatorNode
from lanefit.estimator.opgraph.operator import Kind, Operator, Window

PAIR = FusionRules.of([("conv", "relu")])
RESIDUAL = graph(("a", conv(), ("x",)), ("b", add(), ("a", "x")), ("c", relu(), ("b",)))


def passes(built: OperatorGraph, rules: FusionRules) -> dict[str, tuple[str, ...]]:
    return {n.name: (str(n.operator.kind), *map(str, n.operator.fused)) for n in fuse(built, rules).nodes}


def test_a_pair_is_one_pass_under_the_name_of_its_last_part() -> None:
    assert passes(graph(("a", conv(), ("x",)), ("b", relu(), ("a",))), PAIR) == {"b": ("conv", "relu")}


def test_pairs_chain_through_the_last_part() -> None:
    built = graph(("a", conv(), ("x",)), ("b", relu(), ("a",)), ("c", Operator(Kind.TANH, (MAP,), MAP), ("b",)))
    assert passes(built, FusionRules.of([("conv", "relu"), ("relu", "tanh")])) == {"c": ("conv", "relu", "tanh")}
    assert passes(built, FusionRules.of([("conv", "relu"), ("conv", "tanh")])) == {
        "b": ("conv", "relu"), "c": ("tanh",),
    }  # fmt: skip


def test_a_result_with_two_readers_or_that_leaves_the_graph_stays_whole() -> None:
    twice = graph(("a", conv(), ("x",)), ("b", relu(), ("a",)), ("c", add(), ("a", "b")))
    leaving = graph(("a", conv(), ("x",)), ("b", relu(), ("a",)), outputs=("a", "b"))
    for built in (twice, leaving):
        assert fuse(built, PAIR).nodes == built.nodes


def test_a_triple_takes_the_residual_sum_and_its_activation_where_no_pair_would() -> None:
    rules = FusionRules.of(triples=[("conv", "add", "relu")])
    (node,) = fuse(RESIDUAL, rules).nodes
    assert (node.operator.fused, node.inputs) == (("add", "relu"), ("x", "x"))
    assert node.operator.inputs == (MAP, MAP)
    without_activation = graph(("a", conv(), ("x",)), ("b", add(), ("a", "x")))
    assert fuse(without_activation, rules).nodes == without_activation.nodes


def test_a_sum_of_two_convolutions_joins_the_later_one() -> None:
    built = graph(("a", conv(), ("x",)), ("b", conv(), ("x",)), ("c", add(), ("a", "b")), ("d", relu(), ("c",)))
    assert passes(built, EPILOGUES) == {"a": ("conv",), "d": ("conv", "add", "relu")}
    assert fuse(built, EPILOGUES).by_name["d"].inputs == ("x", "a")


def test_a_part_of_another_shape_does_not_join() -> None:
    gate = Operator(Kind.MUL, ((1, 8, 1, 1), MAP), MAP)
    pooled = Operator(Kind.GLOBAL_POOL, (MAP,), (1, 8, 1, 1))
    built = graph(("a", pooled, ("x",)), ("b", gate, ("a", "x")))
    assert fuse(built, FusionRules.of([("global-pool", "mul")])).nodes == built.nodes


@st.composite
def graphs(draw: st.DrawFn) -> OperatorGraph:
    names, nodes = ["x"], []
    for number in range(draw(st.integers(1, 14))):
        operator = draw(st.sampled_from([conv(), relu(), add()]))
        inputs = tuple(draw(st.sampled_from(names[-3:])) for _ in operator.inputs)
        nodes.append(OperatorNode(f"n{number}", operator, inputs))
        names.append(f"n{number}")
    return OperatorGraph.of(nodes, {"x": MAP}, [names[-1]])


RULES = st.builds(
    FusionRules.of,
    st.sets(st.tuples(st.sampled_from(["conv", "relu", "add"]), st.sampled_from(["relu", "add"]))),
    st.sets(st.just(("conv", "add", "relu"))),
)


@given(graphs(), RULES)
def test_fusion_keeps_every_operator_the_work_and_the_outputs(built: OperatorGraph, rules: FusionRules) -> None:
    joined = fuse(built, rules)
    parts = sorted(kind for n in joined.nodes for kind in (n.operator.kind, *n.operator.fused))
    assert parts == sorted(node.operator.kind for node in built.nodes)
    assert (joined.macs, joined.weight_bytes, joined.outputs) == (built.macs, built.weight_bytes, built.outputs)
    assert joined.traffic_bytes <= built.traffic_bytes


@given(graphs(), RULES)
def test_fusing_again_only_adds_what_the_rules_say(built: OperatorGraph, rules: FusionRules) -> None:
    assert fuse(built, NO_FUSION).nodes == built.nodes
    assert FusionRules.from_dict(rules.as_dict()) == rules


@pytest.mark.parametrize("pair", [("relu", "conv"), ("add", "max-pool"), ("conv", "linear")])
def test_a_rule_that_no_pass_can_end_in_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(EstimatorError, match="cannot be one pass"):
        FusionRules.of([pair])


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"pairs": []},
        {"pairs": [["a"]], "triples": []},
        {"pairs": 3, "triples": []},
        {"pairs": [[1, 2]], "triples": []},
    ],
)
def test_a_document_that_holds_no_rules_is_a_typed_error(document: dict[str, object]) -> None:
    with pytest.raises(EstimatorError, match="no fusion rule"):
        FusionRules.from_dict(document)


def test_a_fused_window_stays_that_of_its_convolution() -> None:
    fused = fuse(graph(("a", conv(kernel=5), ("x",)), ("b", relu(), ("a",))), PAIR).operators[0]
    assert fused.window == Window.square(5, 1, 2)
