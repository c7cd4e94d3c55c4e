"""Quantised networks, live: executed in integers, measured in pieces, with costs of their own."""

from __future__ import annotations

from pathlib import Path

from export_examples import Mixed, int8_model

from lanefit.estimator.live.box import Known, box_of, place
from lanefit.estimator.live.calibrate import Budget, calibrate, network_sum
from lanefit.estimator.live.ort_runner import OrtRunner
from lanefit.estimator.live.protocol import Protocol
from lanefit.estimator.live.store import LiveStore
from lanefit.estimator.live.work import work_of

CACHES = (2**20,)
QUICK = Protocol(warm_up=1, runs_per_visit=1, visit_us=0, min_visits=2, max_visits=2)


def test_qdq_networks_are_measured_as_integer_operators_and_predicted(tmp_path: Path) -> None:
    runner = OrtRunner(1)
    graph = runner.executed(int8_model(Mixed))
    integers = [n.operator for n in graph.nodes if n.operator.kind.rsplit(".", 1)[-1].startswith("QLinear")]
    assert integers
    assert all("int8" in work_of(operator).kind for operator in integers)
    assert any(work_of(operator).macs > 0 for operator in integers)
    with LiveStore(tmp_path / "int8.sqlite") as store:
        model = calibrate(
            runner, [graph], store, caches=CACHES, budget=Budget(measurements=12, rounds=1), protocol=QUICK
        )
        kinds = {work_of(t.operator).kind for m in store.all() for t in m.definition.terms}
    assert any("QLinearConv" in kind and "int8" in kind for kind in kinds)
    (predicted,), _ = model.predict([network_sum(graph, CACHES)])
    assert predicted > 0


def test_integer_operators_have_boxes_of_their_own() -> None:
    graph = OrtRunner(1).executed(int8_model(Mixed))
    terms = network_sum(graph, CACHES)
    quantised = next(n.operator for n in graph.nodes if "QLinearConv" in n.operator.kind)
    assert place(box_of([terms]), work_of(quantised)) is Known.INSIDE
    assert place({}, work_of(quantised)) is Known.UNKNOWN
