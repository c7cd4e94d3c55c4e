"""Hyper-parameters of a Gaussian process by its marginal likelihood (Rasmussen and Williams, 2006, eq. 5.8 and 5.9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.optimize import minimize

from ...common.errors import EstimatorError

Array: TypeAlias = NDArray[np.float64]
Covariance: TypeAlias = Callable[[Array], tuple[Array, Callable[[Array], Array]]]
"""Log hyper-parameters → covariance of the targets, and the map from ∂L/∂covariance to ∂L/∂log hyper-parameters."""

_JITTER = 1e-8
_PRIOR_WEIGHT = 0.01
"""Of a Gaussian around the start: keeps hyper-parameters without effect where they are."""
_LIMIT = 12.0


@dataclass(frozen=True, slots=True)
class Solved:
    """dual: covariance⁻¹ · target. left_out: what each target would be predicted as without itself, and its variance
    (ibid., eq. 5.12)."""

    factor: Array
    dual: Array
    left_out: Array
    left_out_variance: Array


def ascend(
    covariance: Covariance, target: Array, start: Array, *, iterations: int, first: Array | None = None
) -> Array:
    """The log hyper-parameters that make `target` (rows,) of zero mean most likely.

    start: what they are without evidence. first: where the search begins, `start` when absent.
    """

    def loss(theta: Array) -> tuple[float, Array]:
        matrix, pull_back = covariance(theta)
        try:
            factor = cholesky(_with_jitter(matrix), lower=True)
        except LinAlgError:
            return 1e12, np.zeros_like(theta)
        dual = cho_solve((factor, True), target)
        inverse = cho_solve((factor, True), np.eye(len(target)))
        value = 0.5 * target @ dual + np.log(np.diag(factor)).sum()
        gradient = 0.5 * pull_back(inverse - np.outer(dual, dual))
        away = theta - start
        return float(value + _PRIOR_WEIGHT * away @ away), gradient + 2 * _PRIOR_WEIGHT * away

    bounds = [(value - _LIMIT, value + _LIMIT) for value in start]
    options: Any = {"maxiter": iterations}
    begin = np.clip(start if first is None else first, start - _LIMIT, start + _LIMIT)
    found: Any = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x, np.float64)


def solve(matrix: Array, target: Array) -> Solved:
    """The posterior of `target` (rows,) under a covariance (rows, rows) that includes the noise.

    Raises:
        EstimatorError: the covariance is not positive definite.
    """
    try:
        factor = cholesky(_with_jitter(matrix), lower=True)
    except (LinAlgError, ValueError) as error:
        raise EstimatorError(
            f"the covariance of {len(target)} networks cannot be factored: {error}",
            hint="look for measurements that are not finite",
        ) from error
    dual = cho_solve((factor, True), target)
    variance = 1 / np.diag(cho_solve((factor, True), np.eye(len(target))))
    return Solved(factor, dual, target - dual * variance, variance)


def _with_jitter(matrix: Array) -> Array:
    return matrix + _JITTER * float(np.mean(np.diag(matrix))) * np.eye(len(matrix))
