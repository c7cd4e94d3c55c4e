"""Searches under an energy budget, with an estimator that was calibrated on energies of networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lanefit.common.budget import Budget
from lanefit.common.errors import ConfigError, InputError
from lanefit.estimator.devices.files import load_device, save_device
from lanefit.estimator.devices.fitting import MeasuredNetwork, Measurements, fit_device
from lanefit.estimator.tables.cells import Quantity
from lanefit.export.graph import Graph
from lanefit.models.registry import families
from lanefit.nas.config import SearchConfig
from lanefit.nas.energy import energy_model
from lanefit.nas.operator_bridge import architecture_graph
from lanefit.nas.scoring import Cost, Powered
from lanefit.nas.search import run_search
from lanefit.nas.space import Space
from lanefit.nas.workbench import ModelWorkbench, workbench
from lanefit.targets.spec import load_spec

KNOBS = {"resolution": [16], "stages": [2], "activation": ["relu"]}
CONFIG = SearchConfig().replaced(knobs=KNOBS, curate=False, target="ne-64")


class MacsEstimator:
    """Latency in proportion to work: stands in for a fitted estimator."""

    def estimate(self, graph: Graph) -> Cost:
        return Cost(graph.macs / 1e3, graph.macs / 0.9e3, 1000, 1000, 1000, graph.macs)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An estimator of a board where every MAC takes a picojoule times a thousand, and every operator 2 uJ."""
    space = Space.of(families.get("ibn-classifier")).restrict(KNOBS, where="knobs")
    drawn = [architecture_graph(space.sample(seed), input_channels=1) for seed in range(14)]
    energy = [2 * len(g.operators) + 1e-3 * sum(operator.macs for operator in g.operators) for g in drawn]
    networks = tuple(MeasuredNetwork(f"n{i}", g, uj) for i, (g, uj) in enumerate(zip(drawn, energy, strict=True)))
    path = tmp_path_factory.mktemp("energy") / "board.energy.json"
    save_device(fit_device("board", Measurements((), networks, quantity=Quantity.ENERGY)).estimator, path)
    return path


@pytest.fixture(scope="module")
def bench(file: Path) -> ModelWorkbench:
    return workbench(CONFIG.replaced(energy=str(file)), MacsEstimator(), load_spec("ne-64"))[0]


def test_estimates_carry_the_upper_end_of_the_energy(bench: ModelWorkbench, file: Path) -> None:
    architecture = bench.space.sample(99)
    found, plain = bench.estimate(architecture), MacsEstimator()
    assert isinstance(found, Powered)
    estimate = load_device(file).estimate(architecture_graph(architecture, input_channels=1))
    assert found.energy_uj == estimate.upper_us > estimate.latency_us
    bare = ModelWorkbench(bench.space, bench.task, plain).estimate(architecture)
    assert replace(Cost.of(found), energy_uj=None) == Cost.of(bare)


def test_an_energy_budget_separates_thrifty_networks_from_others(bench: ModelWorkbench) -> None:
    costs = [Cost.of(bench.estimate(bench.space.sample(seed))) for seed in range(20)]
    limit = float(np.median([cost.energy_uj or 0.0 for cost in costs]))
    verdicts = [cost.check(Budget(energy_uj=limit)) for cost in costs]
    assert 0 < sum(verdict.passed for verdict in verdicts) < len(costs)
    for cost, verdict in zip(costs, verdicts, strict=True):
        assert cost.energy_uj is not None
        assert verdict.passed == (cost.energy_uj <= limit)


def test_a_search_by_estimates_alone_keeps_an_energy_budget(bench: ModelWorkbench, file: Path, tmp_path: Path) -> None:
    sampled = [Cost.of(bench.estimate(bench.space.sample(seed))).energy_uj or 0.0 for seed in range(20)]
    limit = float(np.median(sampled))
    budgets = {"energy": f"{limit}uJ"}
    config = CONFIG.replaced(strategy="zero-cost", energy=str(file), budgets=budgets, trials=30, finalists=2, seed=1)
    result = run_search(config, tmp_path / "run", bench)
    energies = [trial.cost.energy_uj for trial in result.trials if trial.cost]
    assert len(energies) == 30
    assert [trial.feasible for trial in result.trials] == [uj is not None and uj <= limit for uj in energies]
    assert result.winner is not None


def test_costs_with_energies_are_stored_and_read(bench: ModelWorkbench) -> None:
    cost = Cost.of(bench.estimate(bench.space.sample(3)))
    assert Cost(**cost.as_dict()) == cost


def test_an_unknown_energy_is_not_taken_for_little() -> None:
    with pytest.raises(InputError, match="no energy was measured"):
        Cost(1.0, 1.0, 1, 1, 1, 1).check(Budget(energy_uj=1.0))


def test_an_energy_budget_needs_an_estimator() -> None:
    with pytest.raises(ConfigError, match="nothing estimates energies of ne-64") as caught:
        energy_model(CONFIG.replaced(budgets={"energy": "5uJ"}))
    assert "--quantity energy" in caught.value.hint


def test_an_estimator_of_latency_is_no_estimator_of_energy(file: Path, tmp_path: Path) -> None:
    found = load_device(file)
    save_device(replace(found, card=replace(found.card, quantity="latency")), tmp_path / "latency.json")
    with pytest.raises(ConfigError, match="this estimates latency, not energy"):
        energy_model(CONFIG.replaced(energy=str(tmp_path / "latency.json")))
