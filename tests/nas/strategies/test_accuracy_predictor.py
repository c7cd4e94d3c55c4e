from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.nas.strategies.accuracy_predictor import BOOSTING_FROM, AccuracyPredictor


def _labelled(count: int, seed: int = 0, noise: float = 0.002) -> tuple[np.ndarray, np.ndarray]:
    """Features and accuracies in 0.8..0.95 that depend on three of six columns."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 6))
    signal = np.tanh(features[:, 0] + 0.5 * features[:, 1] - 0.5 * features[:, 2] ** 2)
    return features, np.clip(0.875 + 0.07 * signal + noise * random.normal(size=count), 0, 1)


@pytest.mark.parametrize("count", [20, BOOSTING_FROM + 20])
def test_it_orders_networks_it_has_not_seen(count: int) -> None:
    features, accuracies = _labelled(count)
    unseen, truth = _labelled(200, seed=1)
    mean, _ = AccuracyPredictor(features, list(accuracies), seed=0).predict(unseen)
    ranks = [np.argsort(np.argsort(values)) for values in (mean, truth)]
    assert np.corrcoef(*ranks)[0, 1] > (0.6 if count == 20 else 0.8)


def test_a_view_that_knows_the_accuracy_is_heard_among_many_columns_that_do_not() -> None:
    random = np.random.default_rng(3)
    noise, trend = random.normal(size=(220, 40)), random.normal(size=(220, 1))
    features, accuracies = np.hstack([noise, trend]), 0.9 + 0.02 * np.tanh(trend[:, 0])

    def agreement(views: list[int]) -> float:
        learnt = AccuracyPredictor(features[:20], list(accuracies[:20]), seed=0, views=views, trend=len(views) > 1)
        return float(np.corrcoef(learnt.predict(features[20:])[0], accuracies[20:])[0, 1])

    assert agreement([40, 1]) > 0.95
    assert agreement([40, 1]) > agreement([41]) + 0.1


def test_it_is_less_sure_far_from_its_labels() -> None:
    features, accuracies = _labelled(30)
    predictor = AccuracyPredictor(features, list(accuracies), seed=0)
    _, near = predictor.predict(features)
    _, far = predictor.predict(features + 20)
    assert far.min() > near.max()


@pytest.mark.parametrize("count", [40, 100])
def test_the_report_is_about_labels_it_was_not_shown(count: int) -> None:
    features, _ = _labelled(count)
    chance = np.random.default_rng(5).uniform(0.8, 0.95, size=count)
    assert abs(AccuracyPredictor(features, list(chance), seed=0).report.spearman) < 0.5
    learnt = AccuracyPredictor(features, list(_labelled(count)[1]), seed=0).report
    assert learnt.spearman > 0.6
    assert learnt.mean_absolute_error < 0.04
    assert learnt.coverage > 0.75


def test_leaving_out_in_closed_form_equals_fitting_without_the_label() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor

    from lanefit.nas.strategies.accuracy_predictor import _fit_process, _left_out
    from lanefit.nas.strategies.kernels import additive

    features, accuracies = _labelled(15)
    target = (accuracies - accuracies.mean()) / accuracies.std()
    process = _fit_process(additive([2, 3, 1], trend=True), features, target)
    means, deviations = _left_out(process, features, target)
    for i in range(3):
        rest = np.arange(15) != i
        alone = GaussianProcessRegressor(process.kernel_, optimizer=None).fit(features[rest], target[rest])
        mean, deviation = alone.predict(features[i : i + 1], return_std=True)
        assert means[i] == pytest.approx(mean[0], abs=1e-6)
        assert deviations[i] == pytest.approx(deviation[0], rel=1e-4)


def test_labels_without_noise_or_without_differences_are_fitted_in_silence() -> None:
    features = np.random.default_rng(0).normal(size=(30, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AccuracyPredictor(features, list(0.5 + 0.1 * np.tanh(features[:, 0])), seed=0)
        AccuracyPredictor(features, [0.7] * 30, seed=0)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=12))
def test_any_accuracies_give_finite_predictions(accuracies: list[float]) -> None:
    features = np.random.default_rng(0).normal(size=(len(accuracies), 3))
    mean, deviation = AccuracyPredictor(features, accuracies, seed=0).predict(features)
    assert np.isfinite(mean).all()
    assert (np.isfinite(deviation) & (deviation >= 0)).all()
