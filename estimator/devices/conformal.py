"""Prediction intervals by class of operator or network: conformal, scaled by how hard a prediction is.

The score of a held-out measurement is |log(measured / predicted)| / difficulty. An interval reaches as far as the
score that enough of the held-out ones stay below, so it holds whatever the model got wrong, as long as what is
predicted is drawn like what was held out (Vovk et al., Algorithmic Learning in a Random World, 2005, ch. 2;
normalised scores: Papadopoulos et al., 2008; classes of their own: Mondrian predictors, ibid. ch. 4). Scores of
cross-validation predictions serve as well and waste no measurement (Barber et al., Predictive inference with the
jackknife+, Ann. Stat. 49, 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ...common.errors import EstimatorError

Array: TypeAlias = NDArray[np.float64]

MISS_RATE = 0.1  # of two-sided intervals
_FEW = 50  # below this many scores a class borrows those of all classes
_FOLDS = (20, 10)  # of few and of many measurements: among few, each that is left out besides is missed
_MANY = 200
_SCORES = 1000  # enough for a quantile: further folds of large tables are not worth their fits


@dataclass(frozen=True, slots=True)
class Intervals:
    """Half-widths in units of log latency per unit of difficulty, by class and for classes without their own."""

    miss_rate: float
    by_class: Mapping[str, float]
    pooled: float

    def bounds(
        self, predicted: ArrayLike, *, difficulty: ArrayLike | None = None, classes: Sequence[str] | None = None
    ) -> tuple[Array, Array]:
        """Lower and upper ends, in the unit of `predicted` (rows,), around each positive prediction."""
        centre = np.asarray(predicted, np.float64)
        scale, names = _scales(centre, difficulty), _classes(centre, classes)
        half = np.array([self.by_class.get(name, self.pooled) for name in names], np.float64) * scale
        return centre * np.exp(-half), centre * np.exp(half)

    def as_dict(self) -> dict[str, Any]:
        return {"miss_rate": self.miss_rate, "by_class": dict(self.by_class), "pooled": self.pooled}


def fit_intervals(
    predicted: ArrayLike,
    measured: ArrayLike,
    *,
    difficulty: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    miss_rate: float = MISS_RATE,
) -> Intervals:
    """Intervals from predictions of measurements that the model had not seen, all (rows,) and positive.

    difficulty: a positive scale per row, such as the spread of an ensemble; equal for all rows when absent.
    classes: a name per row; each with enough rows gets intervals of its own, the others share the pooled ones.

    Raises:
        EstimatorError: nothing to calibrate on, lengths that differ, or values that are not positive and finite.
    """
    centre, truth = _positive(predicted, "predictions"), _positive(measured, "measurements")
    if centre.shape != truth.shape or not 0 < miss_rate < 1:
        raise EstimatorError(
            f"intervals need as many predictions ({len(centre)}) as measurements ({len(truth)}) "
            f"and a miss rate between 0 and 1 ({miss_rate})"
        )
    scores = np.abs(np.log(truth / centre)) / _scales(centre, difficulty)
    names = np.array(_classes(centre, classes))
    pooled = conformal_quantile(scores, miss_rate)
    own = {str(name): scores[names == name] for name in np.unique(names)}
    found = {name: conformal_quantile(values, miss_rate) for name, values in own.items() if len(values) >= _FEW}
    return Intervals(miss_rate, found, pooled)


def calibration_folds(count: int, *, seed: int = 0) -> list[NDArray[np.int64]]:
    """Rows to leave out together, fit by fit, of `count` measurements; all of them, or some where they abound.

    What a model says of its own rows, even in closed form without each of them, is too good when its hyper-parameters
    have seen them (a hundred networks of 300 operators: by a fifth to a half), so each fold is left out of a fit of
    everything. Centred on the fit to all, this is CV+ (Barber et al., 2021, section 3.3) of a stable model.
    """
    folds = min(count, _FOLDS[count > _MANY])
    order = np.random.default_rng(seed).permutation(count)
    found, rows = list[NDArray[np.int64]](), 0
    for fold in range(folds):
        if rows < _SCORES:
            found.append(np.sort(order[fold::folds]))
            rows += len(found[-1])
    return found


def conformal_quantile(scores: Array, miss_rate: float) -> float:
    """The score that a further one exceeds with probability `miss_rate` at most.

    With too few scores for that promise (eight for one in ten), what normal errors of this size would exceed as
    rarely, by Student's t, and never less than the largest score.
    """
    count = len(scores)
    rank = ceil((count + 1) * (1 - miss_rate))
    if rank <= count:
        return float(np.sort(scores)[rank - 1])
    size = float(np.sqrt(np.mean(scores**2)))
    return max(float(scores.max()), float(stats.t.ppf(1 - miss_rate / 2, count)) * size)


def intervals_from_dict(value: Mapping[str, Any]) -> Intervals:
    """The inverse of `Intervals.as_dict`; a malformed value raises `EstimatorError`."""
    try:
        by_class = {str(name): float(half) for name, half in value["by_class"].items()}
        found = Intervals(float(value["miss_rate"]), by_class, float(value["pooled"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EstimatorError(f"malformed intervals: {error!r}", hint="fit the estimator again") from error
    halves = (found.pooled, *by_class.values())
    if not 0 < found.miss_rate < 1 or not all(isfinite(half) and half >= 0 for half in halves):
        raise EstimatorError("malformed intervals: widths are finite and not negative", hint="fit the estimator again")
    return found


def coverage(lower: ArrayLike, upper: ArrayLike, measured: ArrayLike) -> float:
    """Share of the measurements (rows,) inside of their intervals, ends included."""
    truth = np.asarray(measured, np.float64)
    return float(np.mean((np.asarray(lower) <= truth) & (truth <= np.asarray(upper))))


def _positive(values: ArrayLike, what: str) -> Array:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not len(found) or not (np.isfinite(found).all() and (found > 0).all()):
        raise EstimatorError(f"{what} must be one or more positive finite numbers in a row")
    return found


def _scales(centre: Array, difficulty: ArrayLike | None) -> Array:
    if difficulty is None:
        return np.ones(len(centre))
    found = _positive(difficulty, "difficulties") if len(centre) else np.zeros(0)
    if found.shape != centre.shape:
        raise EstimatorError(f"{len(found)} difficulties for {len(centre)} predictions")
    return found


def _classes(centre: Array, classes: Sequence[str] | None) -> list[str]:
    names = [""] * len(centre) if classes is None else [str(name) for name in classes]
    if len(names) != len(centre):
        raise EstimatorError(f"{len(names)} classes for {len(centre)} predictions")
    return names
