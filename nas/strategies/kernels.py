"""Kernels over what is known of a candidate: several views of it, each with a length and a weight of its own.

Knobs and what they come to (cost, scores) say different things about an accuracy, and one distance over all columns
drowns the few that matter among the many of the knobs. As a sum, each view explains as much as the labels grant it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Kernel, Matern, WhiteKernel

Matrix = NDArray[np.float64]
SHARE, NOISE = 0.5, 0.1  # variance of each view and of the noise before any label, for labels of variance 1
DOUBT = 1.0  # standard deviation of the logarithm of every parameter before any label: a factor of e


class Columns(Kernel):
    """`kernel` on columns `start` to `stop` (exclusive) of its input, blind to all others."""

    def __init__(self, kernel: Kernel, start: int, stop: int) -> None:
        self.kernel, self.start, self.stop = kernel, start, stop

    @property
    def hyperparameters(self) -> Any:
        return self.kernel.hyperparameters

    @property
    def theta(self) -> Matrix:
        return self.kernel.theta

    @theta.setter
    def theta(self, theta: Matrix) -> None:
        self.kernel.theta = theta

    @property
    def bounds(self) -> Matrix:
        return self.kernel.bounds

    def __call__(self, X: Matrix, Y: Matrix | None = None, eval_gradient: bool = False) -> Any:
        return self.kernel(self._seen(X), None if Y is None else self._seen(Y), eval_gradient)

    def diag(self, X: Matrix) -> Any:  # sklearn's own bodies are empty, so that it seems to return nothing
        return self.kernel.diag(self._seen(X))

    def is_stationary(self) -> Any:
        return self.kernel.is_stationary()

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Columns) and (self.start, self.stop) == (other.start, other.stop)
        return same and isinstance(other, Columns) and self.kernel == other.kernel

    __hash__ = None  # type: ignore[assignment]

    def _seen(self, values: Matrix) -> Matrix:
        return np.atleast_2d(values)[:, self.start : self.stop]


def additive(views: Sequence[int], *, trend: bool) -> Kernel:
    """A smooth kernel for each view (widths in columns, side by side), and noise, which is last.

    With `trend`, the last view is one that accuracies are expected to follow in proportion.
    """
    ends = np.cumsum(views)
    parts: list[Kernel] = []
    for number, (width, end) in enumerate(zip(views, ends, strict=True), start=1):
        inner = DotProduct(0.0, "fixed") if trend and number == len(views) else _smooth(width)
        parts.append(Columns(ConstantKernel(SHARE, (1e-2, 30.0)) * inner, int(end - width), int(end)))
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total + WhiteKernel(NOISE, (1e-3, 3.0))


def _smooth(width: int) -> Kernel:
    length = max(1.0, width**0.5)
    return Matern(length, (length / 10, 10 * length), nu=2.5)


def most_probable(objective: Any, start: Matrix, bounds: Matrix) -> tuple[Matrix, float]:
    """An optimiser for scikit-learn's processes: the parameters of highest posterior, not highest likelihood.

    A dozen labels leave half a dozen parameters open, and the likelihood alone then picks extremes.
    """

    def penalised(theta: Matrix) -> tuple[float, Matrix]:
        value, gradient = objective(theta)
        away = (theta - start) / DOUBT
        return float(value + 0.5 * away @ away), gradient + away / DOUBT

    found = minimize(penalised, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return found.x, float(found.fun)
