"""How far measurements and fitted costs may be off: what weighs the first, and widens the intervals for the second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .operator_costs import AFAR, OperatorCosts, Sum, leaning

Floats = NDArray[np.float64]
USUAL = 0.02
"""Relative standard error of a measurement that is as certain as the protocol asks for."""
_OF_MEDIAN = 1.2533  # its standard error, in those of the mean (of normal samples)


def doubts(latency_us: Floats, errors: Floats, run_doubt_us: float = 0.0) -> Floats:
    """By how much each measurement is noisier than a usual one, at least 1.

    `errors` are relative standard errors; besides, the costs of a run differ by `run_doubt_us` from piece to piece,
    however short it is.
    """
    return np.sqrt(1 + (errors / USUAL) ** 2 + (run_doubt_us / (_SHORT * latency_us)) ** 2)


_SHORT = 0.03


def median_error(samples: Sequence[float]) -> float:
    """Relative standard error of the median of `samples`; that of a single sample is taken to be `USUAL`."""
    if len(samples) < 2:
        return USUAL
    return float(_OF_MEDIAN * np.std(samples, ddof=1) / np.sqrt(len(samples)) / np.median(samples))


class CostDoubt:
    """What the costs' own uncertainty adds to the variance of a sum.

    The costs are those that are not at their bound of zero; their covariance is that of the least squares that found
    them (ridge regression: inverse of the precision, times the variance of a measurement).
    """

    def __init__(
        self, costs: OperatorCosts, sums: Sequence[Sum], latency_us: Floats, weights: Floats, noise: float
    ) -> None:
        self._costs = costs
        self._active = np.flatnonzero(costs.vector() > 0)
        rows = costs.design(sums) / (latency_us * weights)[:, None]
        firm = leaning(rows) ** 2
        caches = len(costs.surroundings) - costs.once
        firm[len(firm) - caches :] += AFAR**2
        precision = rows.T @ rows + np.diag(firm)
        inner = precision[np.ix_(self._active, self._active)]
        self._covariance = noise**2 * np.linalg.pinv(inner, hermitian=True)

    def variance_us2(self, sums: Sequence[Sum]) -> Floats:
        """(sums,) in µs²."""
        rows = self._costs.design(sums)[:, self._active]
        return np.einsum("sc,cd,sd->s", rows, self._covariance, rows, optimize=True)
