"""Searches that begin with architectures of a user, or with the best of an earlier search."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nas_fakes import TOY, FakeBench, toy_config

from lanefit.common.errors import ConfigError, InputError, Interrupted, LanefitError
from lanefit.models.architecture import Architecture
from lanefit.models.registry import families
from lanefit.nas.beginning import best_first, fitted, read_beginning
from lanefit.nas.config import SearchConfig
from lanefit.nas.results import SearchResult
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.search import run_search
from lanefit.nas.sharing import find_shared, run_worker
from lanefit.nas.space import Space
from lanefit.nas.storage import parse_place
from lanefit.nas.strategies import STRATEGIES

NARROW = Space.of(TOY).restrict({"first_channels": [8, 16, 32], "second_channels": [16], "second_block": ["separable"]})
MINE = Architecture.of("toy", depth=1, first_channels=16, first_kernel=5, activation="relu6")


@given(seed=st.integers(0, 10**6))
def test_whatever_another_space_holds_fits_once_and_for_all(seed: int) -> None:
    found, knobs = fitted(NARROW, Space.of(TOY).sample(seed))
    NARROW.check(found)
    assert fitted(NARROW, found) == (found, [])
    assert bool(knobs) == (found != Space.of(TOY).sample(seed))


def test_a_number_moves_to_the_nearest_and_a_word_to_the_first() -> None:
    before = Architecture.of(
        "toy", depth=2, first_channels=24, first_kernel=3, second_channels=40, second_block="conv", activation="relu"
    )
    found, knobs = fitted(NARROW, before)
    assert knobs == ["first_channels", "second_block", "second_channels"]
    assert found == before.with_values(first_channels=16, second_block="separable", second_channels=16)


def _file(folder: Path, architecture: Architecture, name: str = "mine.toml") -> str:
    (folder / name).write_text(architecture.to_toml(), encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_what_is_enqueued_is_tried_first_by_every_strategy(strategy: str, tmp_path: Path) -> None:
    other = MINE.with_values(first_kernel=1)
    files = [_file(tmp_path, MINE), _file(tmp_path, other, "other.toml")]
    result = run_search(toy_config(strategy=strategy, enqueue=files), tmp_path / "run", FakeBench())
    assert [trial.architecture for trial in result.trials[:2]] == [MINE, other]
    assert len(result.trials) == 16


def test_values_outside_of_the_space_are_moved_and_said(tmp_path: Path) -> None:
    config = toy_config(strategy="zero-cost", enqueue=[_file(tmp_path, MINE.with_values(first_channels=12))])
    result = run_search(config, tmp_path / "run", FakeBench(NARROW))
    assert result.trials[0].architecture == MINE.with_values(first_channels=8)
    said = "1 of 1 enqueued architectures had values outside of the space, moved to the nearest: first_channels"
    assert result.warnings[0] == said


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search in the wide space, under another budget, that trained what was inside."""
    directory = tmp_path_factory.mktemp("earlier") / "run"
    config = toy_config(strategy="multi-shot", pruner="none", budgets={"latency": "500us"}, seed=1)
    run_search(config, directory, FakeBench())
    return directory


def _later(directory: Path, earlier: Path, bench: FakeBench | None = None, **changes: object) -> SearchResult:
    config = toy_config(warm_start=str(earlier), warm_top=4, seed=9, **changes)
    return run_search(config, directory, bench or FakeBench(NARROW))


@pytest.mark.parametrize("strategy", ["hybrid", "zero-shot"])
def test_the_best_of_an_earlier_search_are_the_first_trials(strategy: str, earlier: Path, tmp_path: Path) -> None:
    ranking = best_first(RunDirectory(earlier).result())
    accuracies = [trial.accuracy or 0.0 for trial in ranking]
    assert accuracies == sorted(accuracies, reverse=True)
    result = _later(tmp_path / "run", earlier, strategy=strategy)
    wanted = list({fitted(NARROW, t.architecture)[0].digest(): None for t in ranking[:4]})
    assert [trial.architecture.digest() for trial in result.trials[: len(wanted)]] == wanted
    assert result.warnings[0].startswith(f"warm start from {earlier}: {len(wanted)} trials, ")


def test_untrained_candidates_follow_by_what_the_search_maximised(tmp_path: Path) -> None:
    result = run_search(toy_config(strategy="zero-shot"), tmp_path / "run", FakeBench())
    ranking = best_first(result)
    assert all(trial.feasible for trial in ranking)
    assert [t.values[0] for t in ranking] == sorted((t.values[0] for t in ranking), reverse=True)


def test_labels_are_all_trainings_of_the_earlier_search(earlier: Path) -> None:
    found = read_beginning(toy_config(warm_start=str(earlier)), Space.of(TOY))
    stored = {t.architecture.digest(): t.accuracy for t in RunDirectory(earlier).result().trials if t.feasible}
    assert {architecture.digest(): accuracy for architecture, accuracy in found.labels} == stored


def test_a_resume_needs_no_earlier_run_and_equals_an_undisturbed_search(earlier: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(earlier, source)
    whole = _later(tmp_path / "whole", source)
    with pytest.raises(Interrupted):
        _later(tmp_path / "run", source, FakeBench(NARROW, interrupt_at=30))
    shutil.rmtree(source)
    assert run_search(None, tmp_path / "run", FakeBench(NARROW), resume=True) == whole


def test_workers_find_what_the_search_begins_with_in_the_storage(tmp_path: Path) -> None:
    place, mine = parse_place(tmp_path / "shared.db"), _file(tmp_path, MINE)
    config = toy_config(strategy="zero-shot", enqueue=[mine])
    with pytest.raises(Interrupted):
        run_search(config, tmp_path / "run", FakeBench(interrupt_at=1), storage=place)
    Path(mine).unlink()
    shared, worker = find_shared(place), RunDirectory(tmp_path / "worker")
    assert run_worker(shared, place, FakeBench(), worker, progress=lambda step: None, facts=shared.facts) == 16
    result = run_search(None, tmp_path / "run", FakeBench(), resume=True)
    assert [t.architecture for t in result.trials if t.architecture == MINE]


def _foreign(folder: Path) -> dict[str, object]:
    return {"enqueue": [_file(folder, Architecture.of("other", depth=1))]}


def _unreadable(folder: Path) -> dict[str, object]:
    return {"enqueue": [str(folder / "absent.toml")]}


def _too_many(folder: Path) -> dict[str, object]:
    return {"enqueue": [_file(folder, MINE), _file(folder, MINE.with_values(first_kernel=1), "b.toml")], "trials": 1}


def _nowhere(folder: Path) -> dict[str, object]:
    return {"warm_start": str(folder / "absent")}


def _unfinished(folder: Path) -> dict[str, object]:
    with pytest.raises(Interrupted):
        run_search(toy_config(), folder / "stopped", FakeBench(interrupt_at=3))
    return {"warm_start": str(folder / "stopped")}


def _hopeless(folder: Path) -> dict[str, object]:
    with pytest.raises(LanefitError):
        run_search(toy_config(budgets={"latency": "1us"}), folder / "hopeless", FakeBench())
    return {"warm_start": str(folder / "hopeless")}


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (_foreign, ConfigError, "about family other, and the search about toy"),
        (_unreadable, InputError, "absent.toml"),
        (_too_many, ConfigError, "2 architectures are enqueued for 1 trials"),
        (_nowhere, InputError, "no earlier search here"),
        (_unfinished, InputError, "has no results yet"),
        (_hopeless, InputError, "found nothing inside its budget"),
    ],
)
def test_an_unusable_beginning_is_refused_before_a_run_is_begun(
    make: object, kind: type[LanefitError], says: str, tmp_path: Path
) -> None:
    assert callable(make)
    config = toy_config(**make(tmp_path))
    with pytest.raises(kind, match=says):
        run_search(config, tmp_path / "run", FakeBench())
    assert not (tmp_path / "run").exists()


def test_an_unknown_knob_is_refused_with_file_and_known_ones(tmp_path: Path) -> None:
    family = families.get("ibn-classifier")
    path = _file(tmp_path, family.middle().with_values(stem_chanels=8))
    with pytest.raises(ConfigError, match="unknown knob 'stem_chanels'") as caught:
        read_beginning(SearchConfig().replaced(enqueue=[path]), Space.of(family))
    assert caught.value.where == f"{path}:stem_chanels"
    assert "stem_channels" in caught.value.hint
