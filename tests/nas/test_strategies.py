from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from nas_fakes import FakeBench, toy_config

from lanefit.common.errors import BudgetError, ConfigError, InputError, UnknownNameError
from lanefit.nas.conformance import StrategyConformance
from lanefit.nas.results import SearchResult
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.search import run_search
from lanefit.nas.strategies import STRATEGIES


class _Toy(StrategyConformance):
    config = toy_config()
    hopeless: ClassVar = {"latency": "1us"}

    @classmethod
    def make_bench(cls) -> FakeBench:
        return FakeBench()


class TestRandom(_Toy):
    strategy = "random"


class TestZeroShot(_Toy):
    strategy = "zero-shot"


class TestHybrid(_Toy):
    strategy = "hybrid"


class TestOneShot(_Toy):
    strategy = "one-shot"


class TestMultiShot(_Toy):
    strategy = "multi-shot"


class TestZeroCost(_Toy):
    strategy = "zero-cost"


def test_every_builtin_strategy_is_examined() -> None:
    examined = {
        cls.strategy for cls in (TestRandom, TestZeroShot, TestHybrid, TestOneShot, TestMultiShot, TestZeroCost)
    }
    assert examined == set(STRATEGIES)


def test_the_nearest_misses_are_ordered_by_how_much_they_miss(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="none of 16 candidates meets the budget") as caught:
        run_search(toy_config(budgets={"latency": "5us"}), tmp_path / "run", FakeBench())
    misses = RunDirectory(tmp_path / "run").result().misses
    excess = [float(miss.split("missed by ")[1].rstrip("%)")) for miss in misses]
    assert excess == sorted(excess)
    assert all(miss in caught.value.hint for miss in misses)


def test_refused_candidates_are_recorded_with_the_reason_and_never_win(tmp_path: Path) -> None:
    result = run_search(toy_config(strategy="zero-shot"), tmp_path / "run", FakeBench(refuse_kernel=5))
    refused = [trial for trial in result.trials if trial.cost is None]
    assert refused
    assert all("kernel 5 is too wide" in trial.refusal and not trial.feasible for trial in refused)
    assert all(finalist.architecture.values["first_kernel"] != 5 for finalist in result.finalists)


def test_measured_finalists_outside_of_the_budget_make_room_for_the_next(tmp_path: Path) -> None:
    result = run_search(toy_config(), tmp_path / "run", FakeBench(measured_factor=2.0))
    assert result.winner is not None
    assert result.winner.measured is not None
    for finalist in result.finalists:
        assert finalist.verdict.passed == (finalist.cost.latency_us <= 300)
        assert (finalist.accuracy is not None) == finalist.verdict.passed
    assert any(not finalist.verdict.passed for finalist in result.finalists)


def test_an_accuracy_floor_that_no_finalist_reaches_is_a_budget_error(tmp_path: Path) -> None:
    budgets = {"latency": "300us", "accuracy": "99%"}
    with pytest.raises(BudgetError, match=r"accuracy >= 99\.00%") as caught:
        run_search(toy_config(budgets=budgets), tmp_path / "run", FakeBench())
    assert "accuracy" in caught.value.hint


def test_an_accuracy_floor_without_training_is_refused_beforehand(tmp_path: Path) -> None:
    config = toy_config(strategy="zero-shot", budgets={"accuracy": "90%"})
    with pytest.raises(ConfigError, match="trains nothing") as caught:
        run_search(config, tmp_path / "run", FakeBench())
    assert "hybrid" in caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "hybird"}, "unknown strategy 'hybird'"),
        ({"sampler": "tpo"}, "unknown sampler 'tpo'"),
        ({"proxies": ["nasswot"]}, "unknown proxy 'nasswot'"),
    ],
)
def test_unknown_names_are_refused_with_known_ones(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message) as caught:
        run_search(toy_config(**change), tmp_path / "run", FakeBench())
    assert "did you mean" in caught.value.hint


@pytest.mark.parametrize("strategy", ["hybrid", "one-shot", "random"])
def test_a_sampler_that_has_no_say_is_refused_with_strategies_where_it_has(tmp_path: Path, strategy: str) -> None:
    with pytest.raises(
        ConfigError, match=f"strategy {strategy} chooses its candidates itself, so sampler tpe"
    ) as caught:
        run_search(toy_config(strategy=strategy, sampler="tpe"), tmp_path / "run", FakeBench())
    assert caught.value.hint == "drop it, or use one of multi-shot, zero-cost, zero-shot"
    assert not (tmp_path / "run").exists()


def test_degenerate_candidates_are_the_last_resort(tmp_path: Path) -> None:
    result = run_search(toy_config(strategy="zero-shot", finalists=16), tmp_path / "run", FakeBench())
    degenerate = [finalist.trial.degenerate for finalist in result.finalists]
    assert any(degenerate)
    assert degenerate == sorted(degenerate)


def test_finalists_differ_in_more_than_one_knob(tmp_path: Path) -> None:
    result = run_search(toy_config(strategy="zero-shot"), tmp_path / "run", FakeBench())
    values = [finalist.architecture.values for finalist in result.finalists]
    for i, mine in enumerate(values):
        for theirs in values[i + 1 :]:
            assert sum(mine.get(name) != theirs.get(name) for name in {*mine, *theirs}) > 1


def test_multi_shot_stops_candidates_that_fall_behind(tmp_path: Path) -> None:
    bench = FakeBench()
    result = run_search(toy_config(strategy="multi-shot", trials=24), tmp_path / "run", bench)
    stopped = [trial for trial in result.trials if trial.stopped]
    assert stopped
    assert all(len(trial.curve) < 4 for trial in stopped)
    assert bench.epochs_seen < 4 * bench.trainings
    kept = {path.stem for path in (tmp_path / "run" / "weights").iterdir()}
    assert kept == {finalist.architecture.digest() for finalist in result.finalists}


def test_two_objectives_keep_every_training_whole(tmp_path: Path) -> None:
    config = toy_config(strategy="multi-shot", sampler="nsga2", objectives=["score", "latency"])
    result = run_search(config, tmp_path / "run", FakeBench())
    assert not any(trial.stopped for trial in result.trials)
    assert all(len(trial.values) == 2 for trial in result.trials)


def test_the_gaussian_process_sampler_is_there_by_name(tmp_path: Path) -> None:
    result = run_search(toy_config(strategy="zero-shot", sampler="gp", trials=11), tmp_path / "run", FakeBench())
    assert result.winner is not None


def test_repeated_architectures_are_scored_once(tmp_path: Path) -> None:
    bench = FakeBench(refuse_kernel=3)
    result: SearchResult = run_search(toy_config(strategy="zero-shot", trials=30), tmp_path / "run", bench)
    different = {trial.architecture.digest() for trial in result.trials}
    assert bench.estimates == len(different) < 30


def test_a_full_disk_ends_the_search_with_a_hint_and_keeps_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    from optuna.study import Study

    tell, told = Study.tell, []

    def failing(self: Study, *args: Any, **kwargs: Any) -> object:
        told.append(args)
        if len(told) == 8:
            raise sqlite3.OperationalError("database or disk is full")
        return tell(self, *args, **kwargs)

    monkeypatch.setattr(Study, "tell", failing)
    with pytest.raises(InputError, match="database or disk is full") as caught:
        run_search(toy_config(strategy="zero-shot"), tmp_path / "run", FakeBench())
    assert "every finished trial is kept" in caught.value.hint
    monkeypatch.undo()
    bench = FakeBench()
    run_search(None, tmp_path / "run", bench, resume=True)
    assert bench.estimates < 16
