from __future__ import annotations

import numpy as np
import pytest
from estimator.live.synthetic import true_latency_us
from estimator.live.test_additive import CACHES, as_sum, random_graph
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanefit.estimator.live.additive import fit_additive
from lanefit.estimator.live.doubts import USUAL, CostDoubt, doubts, median_error
from lanefit.estimator.live.operator_costs import Sum

Floats = NDArray[np.float64]
SAMPLES = st.lists(st.floats(1.0, 2.0), min_size=2, max_size=20)


def test_the_error_of_a_median_is_that_of_repeated_experiments() -> None:
    generator = np.random.default_rng(0)
    drawn = 100 + 5 * generator.standard_normal((4000, 15))
    stated = float(np.median([median_error(row.tolist()) for row in drawn]))
    assert stated == pytest.approx(np.std(np.median(drawn, axis=1)) / 100, rel=0.1)


@given(SAMPLES, st.floats(0.1, 1e4))
def test_the_error_of_a_median_has_no_unit(samples: list[float], factor: float) -> None:
    assert median_error([factor * s for s in samples]) == pytest.approx(median_error(samples), abs=1e-9)


def test_one_sample_is_as_certain_as_usual_and_equal_ones_are_certain() -> None:
    assert median_error([3.0]) == USUAL
    assert median_error([3.0, 3.0, 3.0]) == 0.0


@given(st.floats(1.0, 1e5), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 5.0))
def test_doubts_are_at_least_one_and_grow_with_every_error(
    latency_us: float, error: float, more: float, run_us: float
) -> None:
    latency = np.array([latency_us])
    least = doubts(latency, np.array([0.0]))[0]
    assert least == 1.0 <= doubts(latency, np.array([error]), run_us)[0]
    assert doubts(latency, np.array([error]), run_us)[0] <= doubts(latency, np.array([error + more]), run_us + more)[0]


def noisy_pieces(count: int, noisy_share: float) -> tuple[list[Sum], Floats, Floats, Floats]:
    """Sums, their true and measured latencies, and the standard error of each measurement."""
    generator = np.random.default_rng(3)
    graphs = [random_graph(generator, int(generator.integers(2, 6))) for _ in range(count)]
    truth = np.array([true_latency_us(g) for g in graphs])
    errors = np.where(generator.random(count) < noisy_share, 0.2, 0.005)
    return [as_sum(g) for g in graphs], truth, truth * np.exp(errors * generator.standard_normal(count)), errors


def test_measurements_known_to_be_noisy_do_less_harm() -> None:
    sums, _, measured, errors = noisy_pieces(100, 0.5)
    graphs = [random_graph(np.random.default_rng(50 + seed), 20) for seed in range(20)]
    latencies = np.array([true_latency_us(g) for g in graphs])

    def worst(weights: list[float]) -> float:
        found, _ = fit_additive(sums, measured.tolist(), weights).predict([as_sum(g) for g in graphs])
        return float(np.sqrt(np.mean((found / latencies - 1) ** 2)))

    assert worst(doubts(measured, errors).tolist()) < 0.8 * worst([])


def test_fewer_pieces_leave_more_doubt_about_costs() -> None:
    sums, truth, _, _ = noisy_pieces(120, 0.0)
    model = fit_additive(sums, truth.tolist())
    asked = [as_sum(random_graph(np.random.default_rng(9), 15))]

    def variance(count: int) -> float:
        part = CostDoubt(model.costs, sums[:count], truth[:count], np.ones(count), 0.02)
        return float(part.variance_us2(asked)[0])

    assert variance(120) < variance(40) < variance(15)
    assert len(CACHES) == len(model.costs.surroundings) - model.costs.once
