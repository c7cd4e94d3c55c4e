"""What physics leaves over: a Gaussian process, then boosted trees on what the process leaves over.

The process interpolates between few measurements, the trees find steps and interactions once there are many. Trees
learn from leave-one-out predictions of the process, so they correct what it gets wrong on rows that it has not seen.
Every row gets a prediction by models that have not seen it (`unseen_`) and a difficulty likewise, for intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from ...common.errors import EstimatorError
from ..forest import Forest, forest_from_dict, forest_from_sklearn
from .gaussian import GaussianProcess, fit_gaussian, gaussian_from_dict

Array: TypeAlias = NDArray[np.float64]

_MANY = 5000  # rows from which deeper and more trees pay
_FEW = 40  # rows below which there are no trees: too few for one leaf on either side
_LEAST_ERROR = 0.005  # of log latency: errors below it are noise and equally easy


class Trees(Protocol):
    """A forest of arrays, or the booster that grew it."""

    def predict(self, x: Array, /) -> Array: ...


@dataclass(frozen=True, slots=True)
class Spread:
    """What `ResidualStack` says about each row: the prediction, and how large its error tends to be."""

    value: Array
    difficulty: Array


class ResidualStack(RegressorMixin, BaseEstimator):
    """Regression of any numbers over numerical features.

    smooth_columns: what the process reads; all columns when absent.
    process_rows: at most so many rows become part of the process, whose cost grows with their cube;
    sample_rows: those among them that its hyper-parameters are found on.
    trees: boosting rounds; by the number of rows when 0. folds: of the cross-validation behind `unseen_`.
    """

    def __init__(
        self,
        *,
        smooth_columns: tuple[int, ...] | None = None,
        process_rows: int = 2000,
        sample_rows: int = 700,
        trees: int = 0,
        folds: int = 6,
        random_state: int = 0,
    ) -> None:
        self.smooth_columns = smooth_columns
        self.process_rows = process_rows
        self.sample_rows = sample_rows
        self.trees = trees
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> ResidualStack:
        """Fits to `y` (rows,); afterwards `unseen_` holds a `Spread` of the training rows."""
        x, target = self._validated(X, y)
        with threadpool_limits(1):  # more threads than idle cores wait for each other far longer than one works
            left_out, near = self._fit_process(x, target)
            rows = np.column_stack([x, left_out])
            unseen = left_out + self._cross(rows, target - left_out)
            self.boosters_: list[Trees] = self._grow(rows, target - left_out, len(x))
            wide = np.column_stack([rows, near])
            error = np.log(np.abs(target - unseen) + _LEAST_ERROR)
            self.gauge_: list[Trees] = self._grow_gauge(wide, error)
            self.usual_ = float(error.mean())
            self.unseen_ = Spread(unseen, np.exp(self._cross_gauge(wide, error)))
        return self

    def _validated(self, X: Any, y: Any) -> tuple[Array, Array]:
        found: Any = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        return found[0], np.asarray(found[1], np.float64)

    def predict(self, X: ArrayLike) -> Array:
        return self.spread(X).value

    def spread(self, X: ArrayLike) -> Spread:
        """Predictions for the rows of `X` and their difficulty, a typical size of their errors."""
        check_is_fitted(self, "process_")
        given: Any = X
        x = np.asarray(validate_data(self, given, dtype=np.float64, reset=False), np.float64)
        smooth, near = self.process_.predict(self._smooth(x))
        rows = np.column_stack([x, smooth])
        value = smooth + _mean(self.boosters_, rows, 0.0)
        return Spread(value, np.exp(_mean(self.gauge_, np.column_stack([rows, near]), self.usual_)))

    def _smooth(self, x: Array) -> Array:
        return x if self.smooth_columns is None else x[:, list(self.smooth_columns)]

    def _fit_process(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Predictions of `y` by a process that has not seen it (left out, or never given to the process), and the
        similarity of the nearest other row of the process."""
        inside = np.zeros(len(x), np.bool_)
        inside[np.random.default_rng(self.random_state).permutation(len(x))[: self.process_rows]] = True
        smooth = self._smooth(x)
        self.process_: GaussianProcess
        self.process_, *own = fit_gaussian(smooth[inside], y[inside], sample=self.sample_rows, seed=self.random_state)
        found = np.empty((2, len(x)))
        found[:, inside] = own
        found[:, ~inside] = self.process_.predict(smooth[~inside])
        return found[0], found[1]

    def _grow(self, rows: Array, y: Array, size: int) -> list[Trees]:
        """Boosters whose mean predicts `y`; `size` is the number of rows that the whole fit has."""
        if len(rows) < _FEW:
            return []
        many = size >= _MANY
        shape: dict[str, Any] = (
            {"max_iter": self.trees or 1000, "learning_rate": 0.1, "max_leaf_nodes": 31, "min_samples_leaf": 5}
            if many
            else {"max_iter": self.trees or 300, "learning_rate": 0.05, "max_leaf_nodes": 15, "min_samples_leaf": 8}
        )
        shape |= {"l2_regularization": 1.0, "max_features": 0.5, "early_stopping": False}
        seeds = range(self.random_state, self.random_state + (1 if many else 2))
        return [HistGradientBoostingRegressor(random_state=seed, **shape).fit(rows, y) for seed in seeds]

    def _grow_gauge(self, rows: Array, error: Array) -> list[Trees]:
        if len(rows) < 2 * _FEW:
            return []
        shape: dict[str, Any] = {
            "max_iter": min(80, self.trees or 80), "learning_rate": 0.08, "max_leaf_nodes": 12, "min_samples_leaf": 20,
            "l2_regularization": 5.0, "early_stopping": False,
        }  # fmt: skip
        return [HistGradientBoostingRegressor(random_state=self.random_state, **shape).fit(rows, error)]

    def _cross(self, rows: Array, y: Array) -> Array:
        found = np.zeros(len(y))
        for train, test in self._splits(rows):
            found[test] = _mean(self._grow(rows[train], y[train], len(rows)), rows[test], 0.0)
        return found

    def _cross_gauge(self, rows: Array, error: Array) -> Array:
        found = np.full(len(error), self.usual_)
        for train, test in self._splits(rows):
            found[test] = _mean(self._grow_gauge(rows[train], error[train]), rows[test], float(error[train].mean()))
        return found

    def _splits(self, rows: Array) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        if len(rows) < 2 * _FEW:
            return []
        return list(KFold(self.folds, shuffle=True, random_state=self.random_state).split(rows))

    def fitted_state(self) -> dict[str, Any]:
        """Everything that `predict` needs, as JSON values."""
        check_is_fitted(self, "process_")
        boosters, gauge = ([_forest(trees) for trees in found] for found in (self.boosters_, self.gauge_))
        return {
            "features": self.n_features_in_, "process": self.process_.as_dict(), "boosters": boosters,
            "gauge": gauge, "usual": self.usual_, "smooth_columns": self.smooth_columns,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> ResidualStack:
        """The inverse of `fitted_state`; malformed state raises `EstimatorError`."""
        try:
            columns = state["smooth_columns"]
            self.smooth_columns = None if columns is None else tuple(int(column) for column in columns)
            self.n_features_in_, self.usual_ = int(state["features"]), float(state["usual"])
            boosters, gauge = ([forest_from_dict(v) for v in state[name]] for name in ("boosters", "gauge"))
            self.boosters_, self.gauge_ = [*boosters], [*gauge]
            self.process_ = gaussian_from_dict(state["process"])
            widths = {forest.features for forest in boosters}, {forest.features for forest in gauge}
        except (KeyError, TypeError, ValueError) as error:
            raise EstimatorError(f"malformed regressor: {error}", hint="fit the estimator again") from error
        self._check(widths)
        return self

    def _check(self, widths: tuple[set[int], set[int]]) -> None:
        count = self.n_features_in_
        smooth = range(count) if self.smooth_columns is None else self.smooth_columns
        fits = widths[0] <= {count + 1} and widths[1] <= {count + 2} and len(self.process_.mean) == len(smooth)
        if not fits or not all(0 <= column < count for column in smooth) or not np.isfinite(self.usual_):
            raise EstimatorError("malformed regressor: its parts read other features", hint="fit the estimator again")


def _mean(trees: list[Trees], rows: Array, otherwise: float) -> Array:
    if not trees:
        return np.full(len(rows), otherwise)
    return np.mean([found.predict(rows) for found in trees], axis=0)


def _forest(trees: Trees) -> dict[str, Any]:
    found = forest_from_sklearn(trees) if isinstance(trees, HistGradientBoostingRegressor) else trees
    assert isinstance(found, Forest)
    return found.as_dict()
