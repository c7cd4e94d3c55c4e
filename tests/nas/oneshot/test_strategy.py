"""Strategy `one-shot` on the toy bench: what is shared, what it costs, what a resume repeats."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nas_fakes import FakeBench, toy_config

from lanefit.common.errors import ConfigError
from lanefit.nas.results import SearchResult
from lanefit.nas.search import run_search
from lanefit.nas.session import Step


def search(directory: Path, bench: FakeBench, **changes: object) -> SearchResult:
    return run_search(toy_config(strategy="one-shot", **changes), directory, bench)


def test_the_supernet_trains_on_architectures_inside_the_budget_only(tmp_path: Path) -> None:
    bench = FakeBench()
    search(tmp_path / "run", bench)
    (pool,) = bench.pools
    assert all(bench.estimate(member).latency_upper_us <= 300 for member in pool.members)
    sizes = [bench.estimate(member).macs for member in pool.members]
    assert sizes == sorted(sizes)


def test_finalists_are_the_best_by_shared_weights_and_begin_with_them(tmp_path: Path) -> None:
    bench = FakeBench()
    result = search(tmp_path / "run", bench)
    given = {int(start["shared"][0]) for start in bench.starts if start}
    assert len(bench.starts) == 3
    assert given == {int(finalist.architecture.digest()[:6], 16) for finalist in result.finalists}
    feasible = [trial.scores["supernet"] for trial in result.trials if trial.feasible]
    assert result.finalists[0].trial.scores["supernet"] == max(feasible)


def test_every_trial_is_inside_the_budget_while_there_is_anything_inside(tmp_path: Path) -> None:
    assert all(trial.feasible for trial in search(tmp_path / "run", FakeBench()).trials)


def test_the_supernet_gets_its_share_of_the_seconds(tmp_path: Path) -> None:
    steps: list[Step] = []
    config = toy_config(strategy="one-shot", train_seconds=100.0)
    result = run_search(config, tmp_path / "run", FakeBench(), progress=steps.append)
    trained = max(step.done for step in steps if step.stage == "supernet")
    assert 35 <= trained <= 40  # an epoch takes a second, and the plan some of it
    assert any(f"supernet: {trained} epochs in 40 s" in warning for warning in result.warnings)


def test_too_few_seconds_for_an_epoch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not enough for an epoch") as caught:
        search(tmp_path / "run", FakeBench(), train_seconds=2.0)
    assert caught.value.where == "train_seconds"


def test_a_finished_search_is_resumed_without_a_supernet(tmp_path: Path) -> None:
    first = search(tmp_path / "run", FakeBench(), train_seconds=100.0)
    bench = FakeBench()
    assert run_search(None, tmp_path / "run", bench, resume=True) == first
    assert (bench.pools, bench.trainings) == ([], 0)


def test_a_search_interrupted_among_its_trials_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = search(tmp_path / "whole", FakeBench())

    class Interrupting(FakeBench):
        def train(self, *args, **named):  # noqa: ANN202
            if self.trainings == 1:
                raise KeyboardInterrupt
            return super().train(*args, **named)

    with pytest.raises(Exception, match="stopped"):
        search(tmp_path / "run", Interrupting())
    bench = FakeBench()
    assert run_search(None, tmp_path / "run", bench, resume=True) == undisturbed
    assert bench.trainings == 2


def test_a_workbench_without_a_supernet_is_told_so(tmp_path: Path) -> None:
    class Plain(FakeBench):
        supernet = None  # type: ignore[assignment]
        supernet_epochs = None  # type: ignore[assignment]

    with pytest.raises(ConfigError, match="has no supernet"):
        search(tmp_path / "run", Plain())


def hybrid(directory: Path, bench: FakeBench, **changes: object) -> SearchResult:
    return run_search(toy_config(strategy="hybrid", **changes), directory, bench)


def test_hybrid_uses_a_supernet_where_its_share_pays_for_enough_epochs(tmp_path: Path) -> None:
    bench = FakeBench()
    result = hybrid(tmp_path / "run", bench, train_seconds=40.0, trainings=5)
    assert len(bench.pools) == 1
    assert len(bench.starts) == 5
    assert all(start is not None and "shared" in start for start in bench.starts)
    assert any(re.search(r"supernet: \d+ epochs in 10 s", warning) for warning in result.warnings)
    assert any("with the 5 networks that were trained" in warning for warning in result.warnings)


def test_hybrid_says_why_it_did_without_a_supernet(tmp_path: Path) -> None:
    bench = FakeBench()
    result = hybrid(tmp_path / "run", bench, train_seconds=20.0, trainings=5)
    assert bench.pools == []
    assert all(start is None for start in bench.starts)
    assert any("no supernet: 25% of the seconds pay for 5 epochs" in warning for warning in result.warnings)


def test_hybrid_with_a_supernet_is_resumed_to_the_same_result(tmp_path: Path) -> None:
    first = hybrid(tmp_path / "run", FakeBench(), train_seconds=40.0, trainings=5)
    bench = FakeBench()
    assert run_search(None, tmp_path / "run", bench, resume=True) == first
    assert (bench.pools, bench.trainings) == ([], 0)


def test_seconds_alone_pay_for_more_than_one_training(tmp_path: Path) -> None:
    bench = FakeBench()
    hybrid(tmp_path / "run", bench, train_seconds=20.0)
    assert bench.trainings > 4
