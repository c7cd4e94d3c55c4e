"""Estimators are fitted once for an engine, a family and a task, and again when they no longer hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from lanefit.common.errors import InputError
from lanefit.estimator.fit import FitBudget
from lanefit.estimator.network import NetworkEstimator
from lanefit.models.registry import families, find_task
from lanefit.nas.estimators import (
    cached_estimator_path,
    fit_estimator,
    open_estimator,
    sample_graphs,
)
from lanefit.nas.measure import engine_measure
from lanefit.targets.spec import load_spec

SPEC, FAMILY, TASK = load_spec("ne-64"), families.get("ibn-classifier"), find_task("digits")
SMALL = FitBudget(workloads=60, probes_per_kind=4, networks=3, trees=8)


@pytest.fixture(scope="module")
def fitted() -> NetworkEstimator:
    return fit_estimator(SPEC, FAMILY, TASK, networks=8, budget=SMALL)


def test_the_cache_tells_engines_and_tasks_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LANEFIT_CACHE", str(tmp_path))
    paths = {
        cached_estimator_path(spec, FAMILY, task)
        for spec in (SPEC, load_spec("ne-256"))
        for task in (TASK, find_task("cifar10_jpeg"))
    }
    assert len(paths) == 4
    assert all(path.is_relative_to(tmp_path) for path in paths)
    monkeypatch.delenv("LANEFIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cached_estimator_path(SPEC, FAMILY, TASK).is_relative_to(tmp_path / "xdg" / "lanefit")


def test_sample_networks_follow_from_the_seed() -> None:
    assert sample_graphs(FAMILY, TASK, 3, 0) == sample_graphs(FAMILY, TASK, 3, 0)
    assert sample_graphs(FAMILY, TASK, 3, 0) != sample_graphs(FAMILY, TASK, 3, 1)


def test_a_kept_estimator_is_not_fitted_again(fitted: NetworkEstimator, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "e.json"
    reasons: list[InputError] = []
    calls: list[int] = []

    def fit() -> NetworkEstimator:
        calls.append(1)
        return fitted

    for _ in range(2):
        open_estimator(path, SPEC, fit, reasons.append, reasons.append)
    assert (len(calls), reasons) == (1, [])
    open_estimator(path, load_spec("ne-256"), fit, reasons.append, reasons.append)
    assert len(calls) == 2
    assert "was fitted for ne-64" in reasons[0].what


def test_an_estimator_that_cannot_be_kept_is_used_and_told(fitted: NetworkEstimator, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told: list[InputError] = []
    path = tmp_path / "file" / "e.json"
    assert open_estimator(path, SPEC, lambda: fitted, told.append, told.append) is fitted
    assert "cannot write e.json" in told[0].what


def test_the_measured_cost_has_no_interval(fitted: NetworkEstimator) -> None:
    graph = sample_graphs(FAMILY, TASK, 1, 5)[0]
    cost, estimate = engine_measure(SPEC)(graph), fitted.estimate(graph)
    assert cost.latency_upper_us == cost.latency_us
    assert (cost.sram_bytes, cost.weight_bytes) == (estimate.sram_bytes, estimate.weight_bytes)
