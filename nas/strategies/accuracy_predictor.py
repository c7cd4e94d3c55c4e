"""`AccuracyPredictor`: accuracy from features of an architecture, learnt from the trainings of this search.

A Gaussian process (smooth, sure of itself where it has data: best with ten or twenty labels; `kernels` says how it
compares candidates) and, from some dozens of labels on, an ensemble of gradient boosting (steps and interactions),
weighted by how well each predicts the labels that it was not shown. Accuracies are modelled as -log(1 - accuracy):
halving the error is worth the same at any level.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from ..proxies.selfcheck import spearman
from .kernels import additive, most_probable

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

LEAST_LABELS = 4  # fewer say nothing about a spread
BOOSTING_FROM = 40  # labels from which trees have enough to split
FOLDS = 4  # boosted models, each fitted without one part of the labels
PERFECT = 1 - 1e-4  # an accuracy of 1 is finite in logarithms


@dataclass(frozen=True, slots=True)
class PredictorReport:
    """How the predictor does on labels that it was not shown: left out one by one (Gaussian process), or with the
    fold that a model was fitted without (boosting). `coverage` is the share of labels inside their 90 % intervals,
    `spearman` is NaN where all labels or predictions are equal.
    """

    labels: int
    spearman: float
    mean_absolute_error: float
    coverage: float
    process_weight: float

    def __str__(self) -> str:
        return (
            f"accuracy predictor: {self.labels} labels, left out one by one: Spearman {self.spearman:.2f}, "
            f"mean error {self.mean_absolute_error:.2%}, {self.coverage:.0%} inside their 90 % intervals"
        )


class AccuracyPredictor:
    """Fitted on construction. `features` is (labels, columns), accuracies are shares in 0..1; needs LEAST_LABELS.

    `views` are widths of groups of columns that are compared apart from one another (none: all columns are one).
    With `trend`, the last view is believed to follow the accuracy in proportion.
    """

    def __init__(
        self,
        features: Matrix,
        accuracies: Sequence[float],
        seed: int,
        *,
        views: Sequence[int] = (),
        trend: bool = False,
    ) -> None:
        assert len(features) == len(accuracies) >= LEAST_LABELS
        kernel = additive(views or [features.shape[1]], trend=trend)
        self._labels = _stretched(np.array(accuracies, np.float64))
        self._centre, self._scale = float(self._labels.mean()), float(self._labels.std()) or 1.0
        target = (self._labels - self._centre) / self._scale
        self._process = _fit_process(kernel, features, target)
        means, deviations = _left_out(self._process, features, target)
        self._boosted, unseen = _fit_folds(features, target, seed)
        self._weight = _weight(target, means, unseen)
        mixed = means if unseen is None else self._weight * means + (1 - self._weight) * unseen
        self.report = self._judge(np.array(accuracies), mixed, deviations)

    def predict(self, features: Matrix) -> tuple[Vector, Vector]:
        """Mean and standard deviation of -log(1 - accuracy), each (candidates,)."""
        mean, deviation = self._process.predict(features, return_std=True)  # type: ignore[misc]
        mean, variance = np.asarray(mean, np.float64), np.square(deviation)
        if self._boosted:
            trees = np.array([model.predict(features) for model in self._boosted])
            share = 1 - self._weight
            variance = self._weight * variance + share * (trees.var(axis=0) + self._noise)
            mean = self._weight * mean + share * trees.mean(axis=0)
        return mean * self._scale + self._centre, np.sqrt(variance) * self._scale

    @property
    def _noise(self) -> float:
        """What the process takes for noise: training the same network again would not give the same accuracy."""
        return float(np.exp(cast(Kernel, self._process.kernel_).theta[-1]))

    def _judge(self, accuracies: Vector, means: Vector, deviations: Vector) -> PredictorReport:
        shown = means * self._scale + self._centre
        inside = np.abs(shown - self._labels) <= 1.645 * deviations * self._scale
        spread = min(np.ptp(accuracies), np.ptp(shown)) > 0
        return PredictorReport(
            len(accuracies),
            spearman(list(shown), list(accuracies)) if spread else float("nan"),
            float(np.mean(np.abs(1 - np.exp(-shown) - accuracies))),
            float(inside.mean()),
            self._weight,
        )


def _stretched(accuracies: Vector) -> Vector:
    return -np.log(1 - np.minimum(accuracies, PERFECT))


def _fit_process(kernel: Kernel, features: Matrix, target: Vector) -> GaussianProcessRegressor:
    optimizer = cast(Any, most_probable)  # declared as a name there, documented as a name or a function
    with warnings.catch_warnings():  # a parameter at its bound says that few labels leave it open
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianProcessRegressor(kernel, optimizer=optimizer, random_state=0).fit(features, target)


def _left_out(process: GaussianProcessRegressor, features: Matrix, target: Vector) -> tuple[Vector, Vector]:
    """Mean and deviation for every label from all others, in closed form (Rasmussen and Williams 2006, 5.12)."""
    inverse = np.linalg.inv(np.asarray(cast(Kernel, process.kernel_)(features)))
    variance = 1 / np.diag(inverse)
    return target - inverse @ target * variance, np.sqrt(variance)


def _fit_folds(features: Matrix, target: Vector, seed: int) -> tuple[list[GradientBoostingRegressor], Vector | None]:
    """Boosted trees, each without one fold of the labels, and for every label the value of the one without it."""
    if len(target) < BOOSTING_FROM:
        return [], None
    fold = np.random.default_rng(seed).permutation(len(target)) % FOLDS
    models, unseen = list[GradientBoostingRegressor](), np.empty_like(target)
    for number in range(FOLDS):
        left_out = fold == number
        trees = GradientBoostingRegressor(
            n_estimators=60, learning_rate=0.1, max_depth=3, min_samples_leaf=2, max_features=0.5, random_state=number
        ).fit(features[~left_out], target[~left_out])
        models.append(trees)
        unseen[left_out] = trees.predict(features[left_out])
    return models, unseen


def _weight(target: Vector, process: Vector, boosted: Vector | None) -> float:
    """Share of the process: inverse squared errors on labels that each was not shown."""
    if boosted is None:
        return 1.0
    errors = [float(np.square(shown - target).mean()) + 1e-6 for shown in (process, boosted)]
    return errors[1] / (errors[0] + errors[1])
