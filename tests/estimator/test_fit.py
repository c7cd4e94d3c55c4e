"""Fitting: what the card says, resuming, and what is refused."""

from pathlib import Path

import pytest
from estimator.sample_graphs import SMALL, conv_graph, sample_graphs, small_estimator

from lanefit.common.errors import ConfigError, EstimatorError
from lanefit.estimator.decompose import distinct_workloads
from lanefit.estimator.fit import FitBudget, fit_engine
from lanefit.estimator.physics import PHASES
from lanefit.estimator.store import MeasurementStore
from lanefit.kernels.subgraph import Kind
from lanefit.targets.spec import load_spec

SPEC = load_spec("ne-256")
TINY = FitBudget(workloads=40, probes_per_kind=6, networks=2, trees=10)


def test_the_card_tells_data_split_errors_and_box() -> None:
    card = small_estimator().card
    assert card.target == "ne-256"
    assert card.target_digest == SPEC.digest()
    assert card.network_count == SMALL.networks
    assert card.held_out_count == pytest.approx(SMALL.held_out * (card.held_out_count + card.train_count), rel=0.2)
    assert card.errors["all"].count == card.held_out_count
    assert sum(found.count for kind, found in card.errors.items() if kind != "all") == card.held_out_count
    assert set(card.box) >= {"conv2d", "depthwise", "linear", "inverted_bottleneck", "requantise"}
    assert card.network_upper >= 1
    assert [name for name, _ in card.rows()][-2:] == ["all", "networks"]


def test_a_fit_with_a_store_measures_nothing_twice_and_gives_the_same(tmp_path: Path) -> None:
    graphs, calls = sample_graphs(6, seed=20), []
    plain = fit_engine(SPEC, graphs, seed=5, budget=TINY)
    for _ in range(2):
        calls.append(0)
        with MeasurementStore(tmp_path / "m.sqlite") as store:
            stored = fit_engine(
                SPEC, graphs, seed=5, budget=TINY, store=store, progress=lambda done, total: calls.append(total)
            )
        assert stored.card == plain.card
        assert stored.estimate_many(graphs) == plain.estimate_many(graphs)
    assert calls[-1] == 0
    assert sum(calls) > 0


def test_another_seed_draws_another_split() -> None:
    graphs = sample_graphs(6, seed=21)
    one, other = (fit_engine(SPEC, graphs, seed=seed, budget=TINY).card for seed in (1, 2))
    assert one.data_hash != other.data_hash


def test_the_budget_bounds_what_is_measured() -> None:
    graphs, counts = sample_graphs(6, seed=22), []
    fit_engine(SPEC, graphs, seed=0, budget=TINY, progress=lambda done, total: counts.append(total))
    assert counts[0] <= TINY.workloads + len(Kind) * TINY.probes_per_kind < len(distinct_workloads(graphs, SPEC)) + 100


def test_kinds_that_the_samples_lack_are_known_all_the_same() -> None:
    samples = [conv_graph(channels, size=6) for channels in (8, 12, 16, 24)]
    estimator = fit_engine(SPEC, samples, seed=0, budget=TINY)
    kinds = {part.kind for found in estimator.estimate_many(sample_graphs(8, seed=23)) for part in found.parts}
    assert kinds >= {"conv2d", "depthwise", "linear", "pool"}


def test_every_phase_has_a_regressor() -> None:
    assert tuple(small_estimator().regressor.regressors) == PHASES


def test_one_network_is_too_few() -> None:
    with pytest.raises(EstimatorError, match="two networks or more, got 1"):
        fit_engine(SPEC, sample_graphs(1, seed=1), seed=0, budget=TINY)


@pytest.mark.parametrize("wrong", [{"workloads": 0}, {"trees": -1}, {"held_out": 1.0}, {"networks": 0}], ids=str)
def test_an_impossible_budget_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="fit budget"):
        FitBudget(**wrong)  # type: ignore[arg-type]
