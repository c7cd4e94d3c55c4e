"""What probes told of a runtime, in predictions for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from estimator.live.synthetic import SyntheticRunner
from estimator.live.test_additive import CACHES
from estimator.live.test_rules import KnownRunner
from onnx import ModelProto, TensorProto, helper, numpy_helper
from synthetic_device import SyntheticDevice

from lanefit.common.errors import EstimatorError
from lanefit.estimator.live.calibrate import network_sum, pieces
from lanefit.estimator.live.executed import ExecutedGraph
from lanefit.estimator.live.ort_graph import ort_graph
from lanefit.estimator.live.ort_runner import OrtRunner
from lanefit.estimator.live.passes import is_joined, with_passes, without_dead
from lanefit.estimator.live.rules import DeviceRules, find_rules, joined_in_graph, rules_from_dict
from lanefit.estimator.opgraph.fusion import FusionRules
from lanefit.estimator.opgraph.semantics import Semantics
from lanefit.estimator.opgraph.semantics_probes import SemanticsVerdict
from lanefit.estimator.opgraph.sequential import Answer, Plan

SHAPE = [1, 8, 8, 8]
PAIRS, TRIPLES = [("conv", "relu")], [("conv", "add", "relu")]


def model_of(*nodes: tuple[str, list[str], str]) -> ModelProto:
    """Nodes (kind, inputs, output) on one shape of maps; `w` is a 1×1 kernel, `zero` a zero."""
    made = [helper.make_node(kind, inputs, [output], name=output) for kind, inputs, output in nodes]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", nodes[-1][2])]
    constants = {"w": np.ones((8, 8, 1, 1), np.float32), "zero": np.zeros(1, np.float32)}
    graph = helper.make_graph(
        made, "graph", ports[:1], ports[1:], [numpy_helper.from_array(v, n) for n, v in constants.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def graph_of(*nodes: tuple[str, list[str], str]) -> ExecutedGraph:
    return ort_graph(model_of(*nodes), level="none")


@pytest.fixture(scope="module")
def asked() -> dict[Semantics, DeviceRules]:
    """What probes find out about synthetic devices of each semantics, all of which join what `PAIRS` says."""
    fused = FusionRules.of(PAIRS, TRIPLES)
    devices = {s: KnownRunner(rules=SyntheticDevice(rules=fused, semantics=s, seed=1)) for s in Semantics}
    return {
        s: find_rules(runner, pairs=[*PAIRS, ("conv", "sigmoid")], triples=TRIPLES) for s, runner in devices.items()
    }


def names(graph: ExecutedGraph) -> list[str]:
    return [node.name for node in graph.nodes]


def joined(graph: ExecutedGraph, rules: DeviceRules) -> list[str]:
    return [node.name for node in with_passes(graph, rules).nodes if is_joined(node.operator)]


def test_operators_that_probes_found_in_one_pass_are_marked(asked: dict[Semantics, DeviceRules]) -> None:
    rules = asked[Semantics.NOMINAL]
    relu = graph_of(("Conv", ["x", "w"], "a"), ("Relu", ["a"], "b"), ("Conv", ["b", "w"], "c"))
    assert joined(relu, rules) == ["b"]
    sigmoid = graph_of(("Conv", ["x", "w"], "a"), ("Sigmoid", ["a"], "b"), ("Conv", ["b", "w"], "c"))
    assert joined(sigmoid, rules) == []
    residual = graph_of(("Conv", ["x", "w"], "a"), ("Add", ["a", "x"], "s"), ("Relu", ["s"], "r"))
    assert joined(residual, rules) == ["s", "r"]
    read_twice = graph_of(("Conv", ["x", "w"], "a"), ("Relu", ["a"], "b"), ("Add", ["a", "b"], "c"))
    assert joined(read_twice, rules) == []


def test_a_joined_operator_has_costs_of_its_own_and_is_never_cut_off(asked: dict[Semantics, DeviceRules]) -> None:
    chain = [("Conv", ["x", "w"], "a0"), ("Relu", ["a0"], "r0")]
    for i in range(1, 6):
        chain += [("Conv", [f"r{i - 1}", "w"], f"a{i}"), ("Relu", [f"a{i}"], f"r{i}")]
    plain = graph_of(*chain)
    marked = with_passes(plain, asked[Semantics.NOMINAL])
    assert network_sum(marked, CACHES).digest != network_sum(plain, CACHES).digest
    found = pieces([marked], 100, seed=0)
    assert found
    assert all(piece.slice.nodes[0].operator.kind == "Conv" for piece in found)
    assert any(piece.slice.nodes[0].operator.kind == "Relu" for piece in pieces([plain], 100, seed=0))


@pytest.mark.parametrize(
    ("semantics", "left"),
    [
        (Semantics.NOMINAL, {"kept", "dead", "none", "fed", "sum", "out"}),
        (Semantics.BACKWARD, {"kept", "none", "fed", "sum", "out"}),
    ],
)
def test_dead_operators_are_left_out_as_the_device_leaves_them_out(
    asked: dict[Semantics, DeviceRules], semantics: Semantics, left: set[str]
) -> None:
    graph = graph_of(
        ("Conv", ["x", "w"], "kept"), ("Sin", ["kept"], "idle"), ("Conv", ["kept", "w"], "dead"),
        ("Mul", ["dead", "zero"], "none"), ("Conv", ["none", "w"], "fed"), ("Add", ["kept", "fed"], "sum"),
        ("Relu", ["sum"], "out"),
    )  # fmt: skip
    rules = asked[semantics]
    assert rules.semantics.semantics == semantics
    unused = {"idle"} if rules.semantics.answers["runs_unused"].holds else set()
    assert set(names(without_dead(graph, rules))) == left | unused


def test_equal_operators_run_once_where_the_device_merges_them(asked: dict[Semantics, DeviceRules]) -> None:
    graph = graph_of(
        ("Conv", ["x", "w"], "a"), ("Conv", ["x", "w"], "b"), ("Sin", ["b"], "c"), ("Add", ["a", "c"], "d")
    )
    rules = asked[Semantics.NOMINAL]
    expected = ["a", "c", "d"] if rules.semantics.merges_equal else ["a", "b", "c", "d"]
    assert names(without_dead(graph, rules)) == expected
    answers = {**rules.semantics.answers, "runs_equal_twice": Answer(False, -1.0, 0.1, 8)}
    merging = replace(rules, semantics=SemanticsVerdict(answers))
    assert names(without_dead(graph, merging)) == ["a", "c", "d"]


def test_operators_fed_by_zeros_are_left_out_where_the_device_leaves_them_out(
    asked: dict[Semantics, DeviceRules],
) -> None:
    graph = graph_of(("Mul", ["x", "zero"], "none"), ("Conv", ["none", "w"], "fed"), ("Add", ["x", "fed"], "sum"))
    assert names(without_dead(graph, asked[Semantics.FORWARD])) == ["sum"]
    assert names(without_dead(graph, asked[Semantics.NOMINAL])) == ["none", "fed", "sum"]


def test_a_graph_that_is_known_to_run_as_it_stands_is_not_touched(asked: dict[Semantics, DeviceRules]) -> None:
    known = replace(asked[Semantics.LIVE], graph_is_known=True)
    graph = graph_of(("Conv", ["x", "w"], "a"), ("Relu", ["a"], "b"))
    assert with_passes(graph, known) is graph
    assert without_dead(graph, known) is graph


def test_verdicts_survive_their_dictionary_and_damaged_ones_are_refused(asked: dict[Semantics, DeviceRules]) -> None:
    rules = asked[Semantics.BACKWARD]
    assert rules_from_dict(rules.as_dict()) == rules
    for damage in ({"fusion": {}}, {"verdicts": 3}, {"semantics": {"answers": {}}}):
        with pytest.raises(EstimatorError):
            rules_from_dict({**rules.as_dict(), **damage})


def test_what_a_runtime_shows_of_its_passes_is_read_from_its_graph() -> None:
    runner = OrtRunner(1)
    assert joined_in_graph(runner, ("conv", "relu"))
    assert joined_in_graph(runner, ("conv", "add", "relu"))
    assert not joined_in_graph(runner, ("average-pool", "relu"))
    assert not joined_in_graph(SyntheticRunner(), ("conv", "relu"))


@pytest.mark.slow
def test_probes_of_onnx_runtime_agree_with_the_graph_that_it_executes() -> None:
    """What time says is one pass, the graph shows as one operator; a graph with two never takes the time of one.

    On a busy machine time may not tell; the probes then say so, and are asked again.
    """
    runner = OrtRunner(1, clock="processor")
    assert any(rules_that_hold(runner) for _ in range(3))


def rules_that_hold(runner: OrtRunner) -> int:
    found = find_rules(runner, pairs=[*PAIRS, ("add", "relu")], triples=TRIPLES, plan=Plan(looks=(8, 12, 18, 27)))
    assert found.graph_is_known
    for verdict in found.verdicts:
        assert not verdict.holds or joined_in_graph(runner, tuple(map(str, verdict.rule)))
    return sum(bool(verdict.holds) for verdict in found.verdicts)
