"""Trials drawn and stored by the generation: laws of the samplers, resume, and the strategy that uses them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nas_fakes import TOY, FakeBench, toy_config

from lanefit.common.errors import InputError, Interrupted
from lanefit.estimator.screening import Screened
from lanefit.models.architecture import Architecture
from lanefit.nas.batch import Codec
from lanefit.nas.batch_samplers import (
    BATCH_SAMPLERS,
    GENERATION,
    Members,
    crowded_order,
    first_front,
    mutated,
)
from lanefit.nas.progress import Front, Tally
from lanefit.nas.results import SearchResult
from lanefit.nas.rundir import TRIALS_FILE, RunDirectory
from lanefit.nas.search import run_search
from lanefit.nas.space import Space
from lanefit.nas.storage import parse_place

LOSSES = arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 2)), elements=st.integers(0, 6).map(float))
SIZES = np.array([1, 2, 5, 3])


@given(LOSSES)
def test_the_first_front_is_what_nothing_dominates(losses: np.ndarray[Any, Any]) -> None:
    def dominated(row: np.ndarray[Any, Any]) -> bool:
        return bool(np.any(np.all(losses <= row, axis=1) & np.any(losses < row, axis=1)))

    assert first_front(losses).tolist() == [i for i, row in enumerate(losses) if not dominated(row)]


@given(LOSSES, st.integers(0, 5))
def test_less_violation_comes_before_any_objective(losses: np.ndarray[Any, Any], seed: int) -> None:
    violations = np.random.default_rng(seed).integers(0, 3, size=len(losses)).astype(float)
    members = Members(np.zeros((len(losses), 1), dtype=np.int64), losses, violations)
    order = crowded_order(members)
    assert sorted(order.tolist()) == list(range(len(losses)))
    assert np.all(np.diff(violations[order]) >= 0)


@given(st.integers(0, 10_000), st.booleans())
def test_a_mutation_stays_inside_and_leaves_knobs_without_a_choice(seed: int, one: bool) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, SIZES, size=(20, len(SIZES)))
    changed = mutated(generator, rows, SIZES, one=one)
    assert np.all((changed >= 0) & (changed < SIZES))
    if one:
        assert np.all((changed != rows).sum(axis=1) == 1)


@given(st.integers(0, 1000))
def test_an_architecture_is_its_row_and_back(seed: int) -> None:
    space = Space.of(TOY)
    architecture, codec = space.sample(seed), Codec(space)
    assert codec.architecture(codec.row(architecture)) == architecture


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_the_hypervolume_is_the_area_that_some_point_dominates(points: list[tuple[int, int]]) -> None:
    front = Front()
    for score, latency in points:
        front.add(score, latency)
    cells = sum(any(score > x and latency <= y for score, latency in points) for x in range(10) for y in range(10))
    assert front.hypervolume(0, 10) == cells


def test_the_tally_tells_best_share_and_time_to_go(tmp_path: Path) -> None:
    now = [0.0]
    trials = _run(tmp_path / "run", trials=20).trials
    tally = Tally(clock=lambda: now[0])
    for trial in trials[:10]:
        now[0] += 3.0
        tally.add(trial)
    text = tally.text(20)
    best = max((trial for trial in trials[:10] if trial.feasible), key=lambda trial: trial.values[0])
    assert f"best {best.values[0]:.4g} (trial {best.index})" in text
    assert "feasible" in text
    assert "hypervolume" in text
    assert text.endswith("0:30 to go")


def _run(directory: Path, bench: FakeBench | None = None, **changes: object) -> SearchResult:
    settings = {"strategy": "zero-cost", "sampler": "nsga2", "objectives": ["score", "latency"], **changes}
    return run_search(toy_config(**settings), directory, bench or FakeBench())


@pytest.mark.parametrize("sampler", BATCH_SAMPLERS.names())
def test_a_search_that_is_interrupted_and_resumed_equals_an_undisturbed_one(tmp_path: Path, sampler: str) -> None:
    settings: dict[str, object] = {"sampler": sampler, "trials": 2 * GENERATION + 10}
    if sampler == "evolution":
        settings["objectives"] = ["score"]
    space = Space.of(_WideToy())  # of the narrow one, evolution soon knows every architecture
    whole = _run(tmp_path / "whole", FakeBench(space), **settings)
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        _run(run, FakeBench(space, interrupt_at=GENERATION + 30), **settings)
    with pytest.raises(Interrupted):
        run_search(None, run, FakeBench(space, interrupt_at=5), resume=True)
    assert run_search(None, run, FakeBench(space), resume=True) == whole


def test_more_trials_go_on_in_the_middle_of_a_generation(tmp_path: Path) -> None:
    _run(tmp_path / "run", trials=GENERATION + 30)
    config = toy_config(strategy="zero-cost", sampler="nsga2", objectives=["score", "latency"], trials=2 * GENERATION)
    longer = run_search(config, tmp_path / "run", FakeBench(), resume=True)
    assert longer.trials == _run(tmp_path / "whole", trials=2 * GENERATION).trials


def test_a_sampler_that_draws_one_at_a_time_is_replaced_aloud(tmp_path: Path) -> None:
    result = _run(tmp_path / "run", sampler="tpe")
    assert result.warnings == ("tpe draws one trial at a time; nsga2 took its place (of evolution, nsga2, random)",)


@pytest.mark.parametrize("sampler", ["nsga2", "evolution"])
def test_selection_finds_more_than_chance(tmp_path: Path, sampler: str) -> None:
    best = {}
    for name in (sampler, "random"):
        bench = FakeBench(Space.of(_WideToy()))
        found = _run(
            tmp_path / name, bench, sampler=name, objectives=["score"], budgets={"latency": "500us"}, trials=600
        )
        best[name] = max(trial.values[0] for trial in found.trials if trial.feasible)
    assert best[sampler] >= best["random"]


class _WideToy(type(TOY)):
    """Ten thousand times as many architectures."""

    def knobs(self) -> tuple[Any, ...]:
        first, channels, *others = super().knobs()
        wide = type(channels)(channels.name, tuple(range(8, 2000, 2)), channels.kind)
        return (first, wide, *others)


def test_generations_are_not_shared_with_workers(tmp_path: Path) -> None:
    config = toy_config(strategy="zero-cost", sampler="random")
    with pytest.raises(InputError, match="need a study to themselves"):
        run_search(config, tmp_path / "run", FakeBench(), storage=parse_place(tmp_path / "shared.db"))


def test_optuna_reads_what_was_stored_by_the_generation(tmp_path: Path) -> None:
    result = _run(tmp_path / "run", FakeBench(refuse_kernel=5), trials=40)
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/run/study.db")
    assert [tuple(trial.values) for trial in study.trials] == [trial.values for trial in result.trials]
    for stored, trial in zip(study.trials, result.trials, strict=True):
        assert stored.params.items() <= trial.architecture.values.items()
        assert stored.user_attrs["architecture"] == trial.architecture.to_json()
        assert all(value <= 0 for value in stored.constraints.values()) == trial.feasible
        assert stored.user_attrs.get("refusal", "") == trial.refusal


def test_thousands_of_trials_stand_beside_the_run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanefit.nas.rundir.TRIALS_INSIDE", 10)
    result = _run(tmp_path / "run", trials=20)
    run = RunDirectory(tmp_path / "run")
    assert run.read()["results"]["trials"] == {"file": TRIALS_FILE, "count": 20}
    assert run.result() == result


def test_what_a_screen_cannot_tell_is_estimated(tmp_path: Path) -> None:
    class Screening(FakeBench):
        """Sees nothing of kernels 3 and refuses kernels 5."""

        def screen_many(self, architectures: Sequence[Architecture]) -> list[Screened | None]:
            return [self._screened(architecture) for architecture in architectures]

        def _screened(self, architecture: Architecture) -> Screened | None:
            match architecture.values["first_kernel"]:
                case 5:
                    return None
                case 3:
                    return Screened(None, None, 10, 20, 30)
            return Screened(100.0, 110.0, 10, 20, 30)

    result = _run(tmp_path / "run", Screening(refuse_kernel=5), trials=40)
    for trial in result.trials:
        kernel = trial.architecture.values["first_kernel"]
        assert (trial.cost is None) == (kernel == 5)
        if trial.cost is not None:
            assert (trial.cost.dram_bytes is None) == (kernel == 1)
    assert all(finalist.cost.dram_bytes is not None for finalist in result.finalists)
