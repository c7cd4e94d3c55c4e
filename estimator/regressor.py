"""Latency = physics / efficiency × exp(learned residual), never below the roofline.

The efficiency in (0, 1] belongs to an operator kind; the residual is a gradient-boosted regression of
log(measured × efficiency / physics), so that relative errors count alike at every scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from ..common.errors import EstimatorError, UnsupportedError
from .forest import Forest, forest_from_dict, forest_from_sklearn

_LEAST_EFFICIENCY = 1e-3
_MOST_LOG_RESIDUAL = 3.0  # a residual beyond a factor of 20 is no residual


class PhysicsRegressor(RegressorMixin, BaseEstimator):
    """Regression over rows that name their physics, roofline and kind in columns.

    `kinds` are the names behind the numbers in column `kind_column`, for messages.
    """

    def __init__(
        self,
        *,
        kind_column: int = 0,
        physics_column: int = 1,
        bound_column: int = 2,
        kinds: tuple[str, ...] = (),
        trees: int = 100,
        learning_rate: float = 0.1,
        max_depth: int = 5,
        min_samples_leaf: int = 10,
        random_state: int = 0,
    ) -> None:
        self.kind_column = kind_column
        self.physics_column = physics_column
        self.bound_column = bound_column
        self.kinds = kinds
        self.trees = trees
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> PhysicsRegressor:
        """Fits to positive latencies `y` in the unit of the physics column."""
        x, target = np.asarray(X, np.float64), np.asarray(y, np.float64)
        if x.ndim != 2 or target.shape != x.shape[:1] or not len(x):
            raise EstimatorError(f"expected one latency for each row of features, got {target.shape} for {x.shape}")
        if not (target > 0).all() or not (x[:, self.physics_column] > 0).all():
            raise EstimatorError("latencies and physics must be positive to fit their ratio")
        kinds = x[:, self.kind_column].astype(int)
        ratio = x[:, self.physics_column] / target
        self.efficiency_: dict[int, float] = {
            int(kind): float(np.clip(np.median(ratio[kinds == kind]), _LEAST_EFFICIENCY, 1.0))
            for kind in np.unique(kinds)
        }
        booster = HistGradientBoostingRegressor(
            max_iter=self.trees,
            learning_rate=self.learning_rate,
            max_depth=self.max_depth,
            max_leaf_nodes=2**self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            random_state=self.random_state,
        ).set_params(early_stopping=False)
        with threadpool_limits(1):  # more threads than idle cores wait for each other far longer than one works
            booster.fit(x, np.log(target / self._scaled(x)))
        self.forest_: Forest = forest_from_sklearn(booster)
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Positive latencies, at least the roofline; a kind without measurements raises `UnsupportedError`."""
        check_is_fitted(self, "forest_")
        x = np.asarray(X, np.float64)
        if x.ndim != 2 or x.shape[1] != self.n_features_in_:
            raise EstimatorError(f"expected rows of {self.n_features_in_} features, got an array of shape {x.shape}")
        residual = np.clip(self.forest_.predict(x), -_MOST_LOG_RESIDUAL, _MOST_LOG_RESIDUAL)
        return np.maximum(self._scaled(x) * np.exp(residual), x[:, self.bound_column])

    def _scaled(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        kinds = x[:, self.kind_column].astype(int)
        unknown = set(kinds.tolist()) - set(self.efficiency_)
        if unknown:
            names = [self.kinds[k] if 0 <= k < len(self.kinds) else str(k) for k in sorted(unknown)]
            known = [self.kinds[k] if k < len(self.kinds) else str(k) for k in self.efficiency_]
            raise UnsupportedError(
                f"the estimator has no measurement of {', '.join(names)}",
                hint=f"fit it with networks that contain it; it knows {', '.join(known)}",
            )
        return x[:, self.physics_column] / np.array([self.efficiency_[k] for k in kinds])

    def fitted_state(self) -> dict[str, Any]:
        """Everything that `fit` learned, as JSON values."""
        check_is_fitted(self, "forest_")
        efficiency = {str(kind): value for kind, value in self.efficiency_.items()}
        return {"efficiency": efficiency, "forest": self.forest_.as_dict()}

    def restore(self, state: dict[str, Any]) -> PhysicsRegressor:
        """The inverse of `fitted_state`; malformed state raises `EstimatorError`."""
        try:
            self.efficiency_ = {int(kind): float(value) for kind, value in state["efficiency"].items()}
            self.forest_ = forest_from_dict(state["forest"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EstimatorError(f"malformed regressor: {error!r}", hint="fit the estimator again") from error
        if not all(_LEAST_EFFICIENCY <= value <= 1 for value in self.efficiency_.values()):
            raise EstimatorError("malformed regressor: efficiencies lie in (0, 1]", hint="fit the estimator again")
        self.n_features_in_ = self.forest_.features
        return self
