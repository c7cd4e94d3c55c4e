"""The regressor by itself, on made-up rows: kind, physics, roofline, one feature that explains the rest."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

from lanefit.common.errors import EstimatorError, UnsupportedError
from lanefit.estimator.forest import forest_from_dict
from lanefit.estimator.regressor import PhysicsRegressor


def _rows(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, count).astype(float)
    physics = np.exp(rng.uniform(2, 14, count))
    effect = rng.uniform(-1, 1, count)
    measured = physics * np.where(kind == 0, 1.25, 2.0) * np.exp(0.3 * (effect > 0.2))
    return np.column_stack([kind, physics, physics, effect]), measured


@pytest.fixture(scope="module")
def fitted() -> PhysicsRegressor:
    return PhysicsRegressor(kinds=("wide", "deep", "new"), trees=60).fit(*_rows(600, 0))


def test_predictions_of_unseen_rows_are_within_a_few_per_cent_at_every_scale(fitted: PhysicsRegressor) -> None:
    x, y = _rows(200, 1)
    assert np.abs(fitted.predict(x) / y - 1).max() < 0.05


def test_efficiency_of_each_kind_is_learned_and_bounded(fitted: PhysicsRegressor) -> None:
    assert set(fitted.efficiency_) == {0, 1}
    assert fitted.efficiency_[1] < fitted.efficiency_[0] <= 1


def test_no_prediction_is_below_the_roofline(fitted: PhysicsRegressor) -> None:
    x, _ = _rows(100, 2)
    x[:, 2] *= 100
    assert (fitted.predict(x) >= x[:, 2]).all()


def test_a_kind_without_measurements_is_refused_by_name(fitted: PhysicsRegressor) -> None:
    x, _ = _rows(3, 3)
    x[1, 0] = 2
    with pytest.raises(UnsupportedError, match="no measurement of new") as caught:
        fitted.predict(x)
    assert "wide, deep" in caught.value.hint


def test_rows_of_another_width_are_refused(fitted: PhysicsRegressor) -> None:
    with pytest.raises(EstimatorError, match="4 features"):
        fitted.predict(np.ones((2, 3)))


def test_latencies_that_are_not_positive_are_refused() -> None:
    x, y = _rows(20, 4)
    with pytest.raises(EstimatorError, match="positive"):
        PhysicsRegressor().fit(x, y * 0)
    with pytest.raises(EstimatorError, match="one latency for each row"):
        PhysicsRegressor().fit(x, y[:-1])


def _unfitted(regressor: PhysicsRegressor) -> PhysicsRegressor:
    copied = clone(regressor)
    assert isinstance(copied, PhysicsRegressor)
    return copied


def test_the_constructor_stores_and_fit_computes(fitted: PhysicsRegressor) -> None:
    copied = _unfitted(fitted)
    assert copied.get_params() == fitted.get_params()
    assert not hasattr(copied, "forest_")


def test_fitting_twice_gives_equal_predictions(fitted: PhysicsRegressor) -> None:
    x, _ = _rows(50, 5)
    again = _unfitted(fitted).fit(*_rows(600, 0))
    assert (again.predict(x) == fitted.predict(x)).all()


def test_state_survives_json_exactly(fitted: PhysicsRegressor) -> None:
    x, _ = _rows(50, 6)
    state = json.loads(json.dumps(fitted.fitted_state()))
    assert (_unfitted(fitted).restore(state).predict(x) == fitted.predict(x)).all()


def test_a_row_predicts_the_same_alone_and_in_a_batch(fitted: PhysicsRegressor) -> None:
    x, _ = _rows(40, 7)
    together = fitted.predict(x)
    assert [fitted.predict(x[i : i + 1])[0] for i in range(len(x))] == together.tolist()


@pytest.mark.parametrize("array", ["left", "right", "feature", "roots"])
def test_trees_that_point_outside_of_their_arrays_are_refused(fitted: PhysicsRegressor, array: str) -> None:
    for wrong in (-1, 10**6):
        value = fitted.forest_.as_dict()
        value[array] = [wrong, *value[array][1:]]
        with pytest.raises(EstimatorError, match=f"{array} points outside"):
            forest_from_dict(value)


@pytest.mark.parametrize(
    "change",
    [{"value": []}, {"threshold": [None]}, {"depth": 10**9}, {"baseline": float("nan")}, {"left": "x"}],
    ids=lambda change: next(iter(change)),
)
def test_malformed_trees_are_refused(fitted: PhysicsRegressor, change: dict[str, object]) -> None:
    with pytest.raises(EstimatorError, match="malformed trees"):
        forest_from_dict({**fitted.forest_.as_dict(), **change})
