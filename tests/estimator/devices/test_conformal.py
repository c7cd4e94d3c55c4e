import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import EstimatorError
from lanefit.estimator.devices.conformal import calibration_folds, coverage, fit_intervals, intervals_from_dict


def noisy(count: int, seed: int, spread: np.ndarray | float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of anything, and measurements that miss them by a log-normal factor."""
    rng = np.random.default_rng(seed)
    predicted = np.exp(rng.normal(size=count))
    return predicted, predicted * np.exp(spread * rng.standard_t(4, size=count))


@pytest.mark.parametrize("miss_rate", [0.05, 0.1, 0.3])
def test_as_many_measurements_are_inside_as_promised(miss_rate: float) -> None:
    found = []
    for seed in range(40):
        intervals = fit_intervals(*noisy(300, seed), miss_rate=miss_rate)
        predicted, measured = noisy(1000, 1000 + seed)
        found.append(coverage(*intervals.bounds(predicted), measured))
    assert np.mean(found) == pytest.approx(1 - miss_rate, abs=0.012)


@settings(max_examples=20, deadline=None)
@given(count=st.sampled_from([50, 100]), freedom=st.floats(0.5, 50), lean=st.floats(-3, 3), seed=st.integers(0, 2**31))
def test_few_exchangeable_errors_hold_the_promise_whatever_their_shape(
    count: int, freedom: float, lean: float, seed: int
) -> None:
    rng, ones, found = np.random.default_rng(seed), np.ones(count), []
    for _ in range(300):
        errors = np.clip(0.05 * (rng.standard_t(freedom, 2 * count) + lean), -300, 300)
        intervals = fit_intervals(ones, np.exp(errors[:count]))
        found.append(coverage(*intervals.bounds(ones), np.exp(errors[count:])))
    assert 0.9 - 0.012 <= np.mean(found) <= 0.9 + 2 / count + 0.012


@given(count=st.integers(1, 5000), seed=st.integers(0, 100))
def test_folds_share_no_row_and_leave_none_out_unless_there_are_plenty(count: int, seed: int) -> None:
    folds = calibration_folds(count, seed=seed)
    rows = np.concatenate(folds)
    assert len(set(rows.tolist())) == len(rows) >= min(count, 1000)
    assert all(0 < len(fold) <= max(1, -(-count // 10)) for fold in folds)
    assert 0 <= rows.min() <= rows.max() < count


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_promise_holds_with_a_handful_of_normal_errors(count: int) -> None:
    rng = np.random.default_rng(count)
    ones, inside = np.ones(count), 0
    for _ in range(400):
        intervals = fit_intervals(ones, np.exp(0.1 * rng.normal(size=count)))
        lower, upper = intervals.bounds([1.0])
        inside += int(lower[0] <= np.exp(0.1 * rng.normal()) <= upper[0])
    assert 0.87 <= inside / 400 <= 0.97


def test_each_class_has_the_coverage_that_was_promised_for_all() -> None:
    classes = ["conv"] * 600 + ["pool"] * 600
    spread = np.array([0.05] * 600 + [0.5] * 600)
    intervals = fit_intervals(*noisy(1200, 0, spread), classes=classes)
    predicted, measured = noisy(1200, 1, spread)
    lower, upper = intervals.bounds(predicted, classes=classes)
    for rows in (slice(0, 600), slice(600, 1200)):
        assert coverage(lower[rows], upper[rows], measured[rows]) == pytest.approx(0.9, abs=0.04)
    assert intervals.by_class["pool"] > 5 * intervals.by_class["conv"]


def test_difficulty_makes_easy_predictions_narrow_and_hard_ones_wide() -> None:
    difficulty = np.geomspace(0.01, 1, 2000)
    intervals = fit_intervals(*noisy(2000, 0, difficulty), difficulty=difficulty)
    predicted, measured = noisy(2000, 1, difficulty)
    lower, upper = intervals.bounds(predicted, difficulty=difficulty)
    for rows in np.array_split(np.arange(2000), 4):
        assert coverage(lower[rows], upper[rows], measured[rows]) == pytest.approx(0.9, abs=0.035)


def test_a_class_that_was_hardly_seen_takes_the_intervals_of_all() -> None:
    intervals = fit_intervals(*noisy(210, 0), classes=["conv"] * 200 + ["pool"] * 10)
    assert set(intervals.by_class) == {"conv"}
    lower, upper = intervals.bounds([2.0, 2.0], classes=["pool", "never seen"])
    assert upper[0] == upper[1] == pytest.approx(2 * np.exp(intervals.pooled))
    assert lower[0] == pytest.approx(2 * np.exp(-intervals.pooled))


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40), st.floats(1e-3, 1e3), st.floats(0.01, 0.5))
def test_intervals_hold_their_prediction_and_do_not_depend_on_the_unit(
    errors: list[float], factor: float, miss_rate: float
) -> None:
    predicted = np.linspace(1, 2, len(errors))
    here = fit_intervals(predicted, predicted * errors, miss_rate=miss_rate)
    there = fit_intervals(predicted * factor, predicted * errors * factor, miss_rate=miss_rate)
    lower, upper = here.bounds(predicted)
    assert (lower <= predicted).all()
    assert (predicted <= upper).all()
    assert there.pooled == pytest.approx(here.pooled, abs=1e-9)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40))
def test_a_lower_miss_rate_never_narrows_an_interval(errors: list[float]) -> None:
    ones = np.ones(len(errors))
    widths = [fit_intervals(ones, errors, miss_rate=rate).pooled for rate in (0.5, 0.2, 0.1, 0.01)]
    assert widths == sorted(widths)


def test_intervals_survive_json() -> None:
    found = fit_intervals(*noisy(300, 0), classes=["conv"] * 200 + ["pool"] * 100)
    assert intervals_from_dict(json.loads(json.dumps(found.as_dict()))) == found


@pytest.mark.parametrize(
    ("predicted", "measured", "more"),
    [
        ([], [], {}),
        ([1.0, 2.0], [1.0], {}),
        ([1.0, -1.0], [1.0, 1.0], {}),
        ([1.0], [float("nan")], {}),
        ([1.0], [1.0], {"difficulty": [0.0]}),
        ([1.0], [1.0], {"difficulty": [1.0, 1.0]}),
        ([1.0], [1.0], {"classes": []}),
        ([1.0], [1.0], {"miss_rate": 1.0}),
    ],
)
def test_what_cannot_calibrate_is_refused(predicted: list[float], measured: list[float], more: dict) -> None:
    with pytest.raises(EstimatorError):
        fit_intervals(predicted, measured, **more)


@pytest.mark.parametrize(
    "value", [{}, {"miss_rate": 2, "by_class": {}, "pooled": 1}, {"miss_rate": 0.1, "by_class": 3, "pooled": 1},
              {"miss_rate": 0.1, "by_class": {"conv": -1.0}, "pooled": 1.0}]
)  # fmt: skip
def test_malformed_intervals_are_refused(value: dict) -> None:
    with pytest.raises(EstimatorError, match="malformed intervals"):
        intervals_from_dict(value)
