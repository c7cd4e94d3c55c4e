"""Trainings as a budget of their own, pruners by name, evolution, and what trainings inherit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from nas_fakes import FakeBench, toy_config

from lanefit.common.errors import ConfigError, Interrupted, UnknownNameError
from lanefit.models.architecture import Architecture
from lanefit.nas.conformance import Watched
from lanefit.nas.ledger import Ledger
from lanefit.nas.results import SearchResult
from lanefit.nas.scoring import Cost
from lanefit.nas.search import run_search
from lanefit.nas.session import Session


def test_a_ledger_counts_every_training_once() -> None:
    ledger = Ledger(most=2)
    for digest in ("a", "a", "b"):
        assert ledger.open
        ledger.enter(digest, 1.0)
    assert (ledger.trainings, ledger.open) == (2, False)


def test_no_training_begins_that_would_probably_outlast_the_seconds() -> None:
    ledger = Ledger(most_seconds=10.0)
    for digest, seconds in (("a", 4.0), ("b", 4.0)):
        assert ledger.open
        ledger.enter(digest, seconds)
    assert not ledger.open


@pytest.mark.parametrize("strategy", ["random", "multi-shot", "hybrid"])
def test_seconds_end_the_trainings_of_every_strategy(tmp_path: Path, strategy: str) -> None:
    bench = FakeBench()
    result = run_search(toy_config(strategy=strategy, train_seconds=1e-9), tmp_path / "run", bench)
    assert bench.trainings == 1
    assert result.winner is not None


class Slow(FakeBench):
    """Costing a network takes a hundredth of a second of processor time."""

    def estimate(self, architecture: Architecture) -> Cost:
        begun = time.process_time()
        while time.process_time() < begun + 0.01:
            pass
        return super().estimate(architecture)


def test_looking_for_networks_is_paid_from_the_same_seconds_as_training_them(tmp_path: Path) -> None:
    config = toy_config(strategy="multi-shot", sampler="random", pruner="none", trials=400, train_seconds=0.5)
    bench = Slow()
    run_search(config, tmp_path / "run", bench)
    assert bench.estimates < 60


@pytest.mark.parametrize("strategy", ["random", "multi-shot", "one-shot", "hybrid"])
def test_the_ledger_holds_what_a_search_spends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str) -> None:
    opened: list[tuple[Session, float]] = []

    class Kept(Session):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            opened.append((self, time.process_time()))

    monkeypatch.setattr("lanefit.nas.search.Session", Kept)
    run_search(toy_config(strategy=strategy, trainings=6, trials=24), tmp_path / "run", Slow())
    ((session, begun),) = opened
    spent = time.process_time() - begun
    assert 0.8 * spent < session.ledger.seconds <= spent
    again = _resumed(tmp_path / "run")
    assert again.winner is not None
    assert opened[1][0].ledger.seconds == pytest.approx(session.ledger.seconds)


def _resumed(directory: Path) -> SearchResult:
    return run_search(None, directory, Slow(), resume=True)


def test_trials_that_run_out_before_the_trainings_are_reported(tmp_path: Path) -> None:
    config = toy_config(strategy="multi-shot", trials=8, trainings=50)
    result = run_search(config, tmp_path / "run", FakeBench())
    assert any("of 50 trainings were used" in warning for warning in result.warnings)


@pytest.mark.parametrize("change", [{"trainings": 5}, {"train_seconds": 5.0}])
def test_a_strategy_that_trains_nothing_has_no_trainings_to_limit(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="trains nothing"):
        run_search(toy_config(strategy="zero-shot", **change), tmp_path / "run", FakeBench())


@pytest.mark.parametrize("pruner", ["halving", "hyperband"])
def test_pruners_by_name_stop_trainings_and_resume_as_if_undisturbed(tmp_path: Path, pruner: str) -> None:
    config = toy_config(strategy="multi-shot", sampler="random", pruner=pruner, trials=24, seed=3)
    whole = run_search(config, tmp_path / "whole", FakeBench())
    assert any(trial.stopped for trial in whole.trials)
    with pytest.raises(Interrupted):
        run_search(config, tmp_path / "run", Watched(FakeBench(), most=7))
    assert run_search(None, tmp_path / "run", FakeBench(), resume=True) == whole


def test_without_a_pruner_every_training_is_whole(tmp_path: Path) -> None:
    result = run_search(toy_config(strategy="multi-shot", pruner="none", trials=24), tmp_path / "run", FakeBench())
    assert not any(trial.stopped for trial in result.trials)


def test_an_unknown_pruner_is_refused_with_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown pruner 'hyperbnd'") as caught:
        run_search(toy_config(pruner="hyperbnd"), tmp_path / "run", FakeBench())
    assert "hyperband" in caught.value.hint


def test_evolution_changes_one_knob_of_a_feasible_parent(tmp_path: Path) -> None:
    config = toy_config(strategy="multi-shot", sampler="evolution", trials=60, pruner="none")
    trials = run_search(config, tmp_path / "run", FakeBench()).trials
    feasible = [trial for trial in trials if trial.feasible]
    children = [trial for trial in trials if sum(t.index < trial.index for t in feasible) > 30]
    assert children
    for child in children:
        earlier = [trial.architecture.values for trial in feasible if trial.index < child.index]
        mine = child.architecture.values
        assert min(sum(v != mine[k] for k, v in parent.items() if k in mine) for parent in earlier) <= 1


def test_evolution_finds_more_than_random_draws_do(tmp_path: Path) -> None:
    def mean(sampler: str) -> float:
        config = toy_config(strategy="multi-shot", sampler=sampler, trials=70, pruner="none")
        trials = run_search(config, tmp_path / sampler, FakeBench()).trials[40:]
        found = [trial.accuracy for trial in trials if trial.accuracy is not None]
        return sum(found) / len(found)

    assert mean("evolution") > mean("random")


def test_evolution_refuses_two_objectives(tmp_path: Path) -> None:
    config = toy_config(strategy="multi-shot", sampler="evolution", objectives=["score", "latency"])
    with pytest.raises(ConfigError, match="one objective"):
        run_search(config, tmp_path / "run", FakeBench())


def test_trainings_inherit_from_the_second_on_when_asked_to(tmp_path: Path) -> None:
    bench = FakeBench()
    run_search(toy_config(strategy="multi-shot", pruner="none", inherit=True), tmp_path / "run", bench)
    assert bench.inherited[0] is False
    assert len(bench.inherited) > 1
    assert all(bench.inherited[1:])


def test_nothing_is_inherited_unasked(tmp_path: Path) -> None:
    bench = FakeBench()
    run_search(toy_config(strategy="multi-shot"), tmp_path / "run", bench)
    assert not any(bench.inherited)


def test_the_hybrid_says_what_its_predictor_is_worth(tmp_path: Path) -> None:
    result = run_search(toy_config(trainings=12, trials=40), tmp_path / "run", FakeBench())
    assert any(warning.startswith("accuracy predictor: 12 labels") or "labels, left out" in warning
               for warning in result.warnings)  # fmt: skip
