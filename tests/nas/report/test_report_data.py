from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import formula_run, small_space

from lanefit.common.budget import Budget
from lanefit.common.errors import BudgetError, InputError
from lanefit.models.architecture import Architecture
from lanefit.models.baselines import mobilenet_v2
from lanefit.models.registry import families
from lanefit.nas.bridge import to_graph
from lanefit.nas.measure import compile_shapes
from lanefit.nas.report.clouds import landscape, planes
from lanefit.nas.report.history import history
from lanefit.nas.report.importance import importance
from lanefit.nas.report.network import facing, sketch_network
from lanefit.nas.report.source import Source, read_source
from lanefit.nas.report.spending import spending, violations
from lanefit.nas.report.thinning import spread, thin
from lanefit.nas.results import SearchResult, TrialRecord
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.scoring import Cost
from lanefit.targets.spec import load_spec


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return formula_run(tmp_path_factory.mktemp("report") / "run")


def record(index: int, value: float, latency_us: float, budget: Budget, **knobs: int) -> TrialRecord:
    cost = Cost(latency_us, latency_us, 1, 1, 1, int(1000 * latency_us))
    values = (value,)
    return TrialRecord(index, Architecture.of("toy", knobs), cost, cost.check(budget), values, scores={"a": value})


@given(st.integers(0, 5000), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_thinning_keeps_few_points_and_those_it_must(count: int, most: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=count).tolist(), generator.normal(size=count).tolist()
    keep = [count // 2] if count else []
    kept = thin(x, y, keep, most=most)
    assert len(kept) <= most + len(keep)
    assert set(keep) <= set(kept.tolist())
    assert all(a < b for a, b in pairwise(kept.tolist()))


def test_thinning_leaves_no_corner_of_the_picture_empty() -> None:
    x, y = np.meshgrid(np.arange(300.0), np.arange(300.0))
    kept = thin(x.ravel().tolist(), y.ravel().tolist(), most=400)
    quarters = {(float(x.ravel()[i]) < 150, float(y.ravel()[i]) < 150) for i in kept}
    assert len(quarters) == 4
    assert len(kept) >= 100


def test_spread_positions_reach_both_ends() -> None:
    assert spread(1000, 5).tolist() == [0, 249, 499, 749, 999]
    assert spread(3, 5).tolist() == [0, 1, 2]
    assert spread(0, 5).tolist() == []


def test_history_never_falls_and_ends_at_the_last_trial() -> None:
    budget = Budget(latency_us=10)
    trials = [record(i, v, lat, budget, k=i) for i, (v, lat) in enumerate([(1, 5), (3, 20), (2, 9), (0, 1), (4, 8)])]
    found = history(trials, 10)
    assert found is not None
    assert found.best.values == (1, 2, 4)
    assert found.hypervolume.values == (5, 6, 6, 11)
    assert found.feasible.values == (1, 1 / 2, 2 / 3, 3 / 4, 4 / 5)
    assert found.total == 4


def test_a_search_without_anything_feasible_has_no_history() -> None:
    assert history([record(0, 1, 20, Budget(latency_us=10))], 10) is None


def test_the_knob_that_decides_is_the_most_important_for_every_evaluator() -> None:
    generator = np.random.default_rng(0)
    draws = generator.integers(0, 4, size=(80, 3))
    trials = [
        record(i, float(10 * a + b), 1, Budget(), a=int(a), b=int(b), c=int(c)) for i, (a, b, c) in enumerate(draws)
    ]
    found = importance(trials, "value", lambda trial: trial.values[0])
    assert found is not None
    assert found.knobs[0] == "a"
    assert len(found.shares) == 3
    for shares in found.shares.values():
        assert shares[0] == max(shares)
        assert sum(shares) == pytest.approx(1)


def test_importance_is_not_guessed_from_a_handful_of_trials() -> None:
    trials = [record(i, float(i), 1, Budget(), a=i) for i in range(9)]
    assert importance(trials, "value", lambda trial: trial.values[0]) is None


def test_planes_tell_scores_from_accuracies_and_keep_the_front(source: Source) -> None:
    found = {drawn.key: drawn for drawn in planes(source.result)}
    assert set(found) == {"pareto-score", "pareto-finalists"}
    assert found["pareto-finalists"].plane.floor == 0.5
    assert any(point.measured for point in found["pareto-finalists"].plane.points)


def test_a_search_by_estimates_alone_has_a_plane_of_what_it_maximised(tmp_path: Path) -> None:
    found = formula_run(tmp_path / "run", strategy="zero-cost", budgets={"latency": "250us"}).result
    plane = planes(found)[0].plane
    assert plane.quality == "value that was maximised"
    assert len(plane.points) == sum(trial.feasible for trial in found.trials) > 1


def test_a_hundred_thousand_trials_leave_a_few_thousand_points() -> None:
    generator = np.random.default_rng(1)
    budget = Budget(latency_us=1)
    trials = tuple(
        record(i, *generator.normal(size=1).tolist(), *generator.uniform(0.1, 2, 1).tolist(), budget)
        for i in range(20_000)
    )
    result = SearchResult(budget, 0, trials)
    drawn, land, past = planes(result)[0], landscape(result), history(trials, 1)
    assert land is not None
    assert past is not None
    assert drawn.total == land.total == 20_000
    assert max(len(drawn.plane.points), len(drawn.plane.unscored_us), len(land.points), len(past.seen.at)) <= 4000
    assert set(drawn.plane.front) <= set(drawn.plane.points)


def test_a_measurement_outside_of_the_budget_is_a_violation(tmp_path: Path) -> None:
    with pytest.raises(BudgetError):
        formula_run(tmp_path / "run", measured_factor=1000.0)
    found = violations(read_source(tmp_path / "run").result)
    assert found.measured == found.broken == found.above > 0
    assert found.rate == 1


def test_predictions_that_held_violate_nothing(source: Source) -> None:
    found = violations(source.result)
    assert (found.rate, found.above, found.measured) == (0, 0, 3)
    assert found.outside == sum(not trial.feasible for trial in source.result.trials)
    broken = [item.name for trial in source.result.trials for item in trial.verdict.items if item.slack < 0]
    assert found.by_limit == Counter(broken)


def test_spending_counts_trainings_and_their_epochs(source: Source, tmp_path: Path) -> None:
    rows = dict(spending(source))
    assert rows["trainings"] == "3, 0 of them stopped early"
    assert rows["epochs trained"] == "12, 0 of them in trainings that were stopped"
    pruned = dict(spending(formula_run(tmp_path / "run", strategy="multi-shot")))
    assert not pruned["trainings"].endswith(" 0 of them stopped early")


def test_blocks_add_up_to_the_compiled_network_and_face_their_namesakes() -> None:
    family, spec = families.get("ibn-classifier"), load_spec("ne-64")
    small = family.layers(small_space().sample(1), input_channels=1, classes=10)
    large = family.layers(mobilenet_v2(), input_channels=1, classes=10)
    a, b = sketch_network("large", large, spec), sketch_network("small", small, spec)
    assert a.latency_us == pytest.approx(compile_shapes(to_graph(large), spec).latency_us)
    assert sum(block.macs for block in a.blocks) == sum(layer.macs for layer in large)
    rows = facing(a, b)
    assert all(left.name == right.name for left, right in rows if left and right)
    assert [left for left, _ in rows if left] == list(a.blocks)
    assert [right for _, right in rows if right] == list(b.blocks)


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no search"):
        read_source(tmp_path)


def test_a_search_that_was_killed_is_read_from_its_trials(source: Source, tmp_path: Path) -> None:
    run = formula_run(tmp_path / "run")
    document = RunDirectory(tmp_path / "run").read()
    del document["results"]
    (tmp_path / "run" / "run.json").write_text(json.dumps({**document, "status": "running"}))
    found = read_source(tmp_path / "run")
    assert found.result.trials == run.result.trials
    assert found.result.winner is None
    assert "yet to come" in found.gaps[-1]
    (tmp_path / "run" / "study.db").unlink()
    with pytest.raises(InputError, match="database of trials is missing"):
        read_source(tmp_path / "run")
