import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad
from sklearn.utils.estimator_checks import parametrize_with_checks

from lanefit.common.errors import EstimatorError
from lanefit.estimator.devices import gaussian
from lanefit.estimator.devices.conformal import coverage
from lanefit.estimator.devices.gaussian import fit_gaussian, gaussian_from_dict
from lanefit.estimator.devices.residual import ResidualStack


def rows(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A smooth wave, a step, and noise that grows with the third feature."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (count, 3))
    wave, step = np.sin(5 * x[:, 0]), 0.5 * (x[:, 1] > 0.6)
    return x, wave + step + 0.1 * x[:, 2] * rng.normal(size=count)


@pytest.fixture(scope="module")
def fitted() -> ResidualStack:
    return ResidualStack(process_rows=300, sample_rows=150, trees=60).fit(*rows(600, 0))


@parametrize_with_checks([ResidualStack(process_rows=60, sample_rows=40, trees=5, folds=2)])
def test_it_is_a_scikit_learn_estimator(estimator: ResidualStack, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def test_unseen_rows_are_predicted_up_to_the_noise(fitted: ResidualStack) -> None:
    x, y = rows(500, 1)
    assert np.sqrt(np.mean((fitted.predict(x) - y) ** 2)) < 0.1


def test_predictions_of_training_rows_were_made_without_them(fitted: ResidualStack) -> None:
    x, y = rows(600, 0)
    fresh_x, fresh_y = rows(600, 2)
    unseen = np.sqrt(np.mean((fitted.unseen_.value - y) ** 2))
    fresh = np.sqrt(np.mean((fitted.predict(fresh_x) - fresh_y) ** 2))
    assert unseen == pytest.approx(fresh, rel=0.15)
    assert unseen > 1.1 * np.sqrt(np.mean((fitted.predict(x) - y) ** 2))


def test_difficulty_follows_the_size_of_the_errors(fitted: ResidualStack) -> None:
    x, y = rows(1500, 3)
    found = fitted.spread(x)
    error = np.abs(found.value - y)
    hard = found.difficulty > np.median(found.difficulty)
    assert error[hard].mean() > 1.5 * error[~hard].mean()
    width = np.quantile(np.abs(fitted.unseen_.value - rows(600, 0)[1]) / fitted.unseen_.difficulty, 0.9)
    lower, upper = found.value - width * found.difficulty, found.value + width * found.difficulty
    assert coverage(lower, upper, y) == pytest.approx(0.9, abs=0.03)


def test_a_restored_stack_predicts_the_same(fitted: ResidualStack) -> None:
    x, _ = rows(50, 4)
    restored = ResidualStack().restore(json.loads(json.dumps(fitted.fitted_state())))
    assert np.allclose(restored.spread(x).value, fitted.spread(x).value, rtol=1e-12)
    assert np.allclose(restored.spread(x).difficulty, fitted.spread(x).difficulty, rtol=1e-12)


def test_few_rows_leave_the_process_alone() -> None:
    x, y = rows(20, 5)
    found = ResidualStack().fit(x, y)
    assert found.boosters_ == []
    assert np.isfinite(found.predict(x)).all()


def test_a_process_leaves_each_row_out_as_if_it_were_fitted_without_it() -> None:
    x, y = rows(30, 6)
    process, left_out, _ = fit_gaussian(x, y, sample=30, seed=0)
    assert np.corrcoef(left_out, y)[0, 1] > 0.8
    assert np.abs(process.predict(x)[0] - y).mean() < np.abs(left_out - y).mean()


def test_the_gradient_of_the_marginal_likelihood_is_its_slope() -> None:
    x, y = rows(25, 7)
    theta = np.random.default_rng(0).normal(0, 0.3, 2 * 3 + 3)
    found = check_grad(lambda t: gaussian._loss(t, x, y)[0], lambda t: gaussian._loss(t, x, y)[1], theta, epsilon=1e-6)
    assert found < 1e-3


def test_malformed_states_are_refused(fitted: ResidualStack) -> None:
    state = fitted.fitted_state()
    for damage in ({"features": 7}, {"process": {}}, {"boosters": [{}]}, {"smooth_columns": [9]}, {"usual": None}):
        with pytest.raises(EstimatorError, match="malformed"):
            ResidualStack().restore({**state, **damage})
    with pytest.raises(EstimatorError, match="positive"):
        gaussian_from_dict({**state["process"], "scale": [0.0] * 3})
