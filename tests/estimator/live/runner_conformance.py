"""The exam of live runners: subclass it with a fixture `runner`."""

from __future__ import annotations

import math

import pytest
from estimator.live.synthetic import chain

from lanefit.common.errors import ToolchainError
from lanefit.estimator.live.cut import Slice
from lanefit.estimator.live.protocol import Protocol, measure
from lanefit.estimator.live.sessions import LiveRunner

SMALL, LARGE = [(16, 16, 3, 8), (16, 32, 1, 8)], [(64, 64, 3, 32)] * 3


class RunnerConformance:
    def test_it_says_what_and_where_it_measures(self, runner: LiveRunner) -> None:
        assert runner.device
        assert any(character.isdigit() for character in runner.toolchain)
        assert runner.threads >= 1
        assert all(isinstance(value, str | float) for value in runner.state().values())

    def test_a_run_takes_time(self, runner: LiveRunner) -> None:
        session = runner.prepare(runner.executed(chain(SMALL)).model)
        assert all(0 < session.run() < math.inf for _ in range(3))
        session.close()

    def test_a_piece_of_an_executed_graph_runs_with_its_memory_swept_away(self, runner: LiveRunner) -> None:
        graph = runner.executed(chain(SMALL))
        session = runner.prepare(Slice(graph, 0, 1).model(), sweep_bytes=100_000)
        assert session.run() > 0
        session.close()

    def test_a_hundred_times_the_work_takes_longer(self, runner: LiveRunner) -> None:
        sessions = {
            name: runner.prepare(runner.executed(chain(layers)).model)
            for name, layers in (("small", SMALL), ("large", LARGE))
        }
        with runner.ready():
            found = measure(sessions, Protocol(visit_us=0, min_visits=3, max_visits=3))
        assert found["large"].latency_us > found["small"].latency_us

    def test_an_unknown_operator_is_refused(self, runner: LiveRunner) -> None:
        model = chain(SMALL)
        model.graph.node[0].op_type = "NoSuchOperator"
        with pytest.raises(ToolchainError):
            runner.prepare(runner.executed(model).model)
