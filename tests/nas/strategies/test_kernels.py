from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.gaussian_process.kernels import Kernel, Matern

from lanefit.nas.strategies.kernels import DOUBT, Columns, additive, most_probable

VALUES = np.random.default_rng(0).normal(size=(9, 6))


def _moved(kernel: Kernel, step: np.ndarray) -> Any:
    return kernel.clone_with_theta(kernel.theta + step)


def test_a_view_is_blind_to_the_columns_of_the_others() -> None:
    view = Columns(Matern(1.0), 0, 2)
    changed = VALUES.copy()
    changed[:, 2:] += 7
    assert np.array_equal(view(VALUES), view(changed))
    changed[:, 1] += np.arange(9)
    assert not np.allclose(view(VALUES), view(changed))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans(), st.integers(0, 10**6))
def test_any_views_give_a_covariance_with_its_gradient(views: list[int], trend: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    values, base = random.normal(size=(6, sum(views))), additive(views, trend=trend)
    assert clone(base) == base
    kernel = _moved(base, random.uniform(-0.5, 0.5, size=base.theta.shape))
    covariance, gradient = kernel(values, eval_gradient=True)
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert np.allclose(np.diag(covariance), kernel.diag(values))
    for number, step in enumerate(1e-5 * np.eye(len(kernel.theta))):
        ends = [_moved(kernel, sign * step)(values) for sign in (1, -1)]
        assert np.allclose((ends[0] - ends[1]) / 2e-5, gradient[..., number], atol=1e-6)


def test_parameters_that_the_labels_leave_open_stay_where_they_began() -> None:
    start, bounds = np.array([0.3, -1.0]), np.array([[-5.0, 5.0], [-5.0, 5.0]])
    found, value = most_probable(lambda theta: (0.0, np.zeros(2)), start, bounds)
    assert (found.tolist(), value) == (start.tolist(), 0.0)
    pulled, _ = most_probable(lambda theta: (2 * theta[0], np.array([2.0, 0.0])), start, bounds)
    assert pulled == pytest.approx([0.3 - 2 * DOUBT**2, -1.0], abs=1e-4)
