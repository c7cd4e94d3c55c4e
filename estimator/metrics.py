"""How well predictions meet measurements. All figures are relative, so units do not matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..common.errors import InputError

Values: TypeAlias = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares within ±5 % and ±10 % (0..1), root mean square relative error (0..), rank correlations (−1..1).

    A correlation is 0 where it is undefined: fewer than two values, or all of them equal.
    """

    count: int
    acc5: float
    acc10: float
    rmspe: float
    spearman: float
    kendall: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def accuracy(predicted: Values, measured: Values) -> Accuracy:
    """Every figure of predictions against positive measurements of the same length."""
    error = relative_errors(predicted, measured)
    return Accuracy(
        count=len(error),
        acc5=float(np.mean(np.abs(error) <= 0.05)),
        acc10=float(np.mean(np.abs(error) <= 0.10)),
        rmspe=float(np.sqrt(np.mean(error**2))),
        spearman=_correlation(predicted, measured, "spearman"),
        kendall=_correlation(predicted, measured, "kendall"),
    )


def relative_errors(predicted: Values, measured: Values) -> NDArray[np.float64]:
    """(predicted − measured) / measured, element by element."""
    p, m = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    if p.shape != m.shape or p.ndim != 1 or not len(p):
        raise InputError(f"predictions {p.shape} and measurements {m.shape} must be equally long and not empty")
    if not (np.isfinite(p).all() and np.isfinite(m).all() and (m > 0).all()):
        raise InputError("predictions must be finite, measurements finite and positive")
    return (p - m) / m


def _correlation(predicted: Values, measured: Values, kind: str) -> float:
    p, m = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    if len(p) < 2 or np.ptp(p) == 0 or np.ptp(m) == 0:
        return 0.0
    found: Any = stats.spearmanr(p, m) if kind == "spearman" else stats.kendalltau(p, m)
    return float(found.statistic)
