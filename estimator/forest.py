"""Boosted regression trees as plain arrays: what a fitted estimator keeps, saves as JSON and evaluates.

scikit-learn grows the trees; the arrays decouple a saved estimator from the version that grew it, and
reading them never runs code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from ..common.errors import EstimatorError

_ARRAYS = {"feature": np.int32, "threshold": np.float64, "left": np.int32, "right": np.int32, "value": np.float64}
_BLOCK = 2048  # rows evaluated at once, which bounds memory


@dataclass(frozen=True, eq=False, slots=True)
class Forest:
    """All trees in one set of node arrays; a leaf points to itself, so that every row takes `depth` steps."""

    features: int
    baseline: float
    depth: int
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Baseline + Σ leaves for each row of `x` (rows, features)."""
        blocks = [self._block(x[start : start + _BLOCK]) for start in range(0, len(x), _BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def _block(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        flat, width = np.ascontiguousarray(x).ravel(), x.shape[1]
        start = (np.arange(len(x)) * width)[:, None]
        node = np.broadcast_to(self.roots, (len(x), len(self.roots)))
        for _ in range(self.depth):
            goes_left = flat[start + self.feature[node]] <= self.threshold[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        return self.baseline + self.value[node].sum(axis=1)

    def as_dict(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).tolist() for name in ("roots", *_ARRAYS)}
        return {"features": self.features, "baseline": self.baseline, "depth": self.depth, **arrays}


def forest_from_sklearn(model: HistGradientBoostingRegressor) -> Forest:
    """The arrays of a fitted booster (numerical features without missing values)."""
    trees = [predictors[0].nodes for predictors in model._predictors]
    counts = np.array([len(nodes) for nodes in trees], np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    nodes: Any = np.concatenate(trees)
    shift = np.repeat(offsets, counts)
    own = np.arange(len(nodes))
    leaf = nodes["is_leaf"].astype(bool)
    return Forest(
        features=int(model.n_features_in_),
        baseline=float(np.ravel(model._baseline_prediction)[0]),
        depth=int(nodes["depth"].max()),
        roots=offsets.astype(np.int32),
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]).astype(np.float64),
        left=np.where(leaf, own, nodes["left"] + shift).astype(np.int32),
        right=np.where(leaf, own, nodes["right"] + shift).astype(np.int32),
        value=np.where(leaf, nodes["value"], 0.0).astype(np.float64),
    )


def forest_from_dict(value: dict[str, Any]) -> Forest:
    """The inverse of `Forest.as_dict`.

    Raises:
        EstimatorError: a node, feature or root lies outside of the arrays, or a number is not finite.
    """
    try:
        arrays = {name: np.asarray(value[name], kind) for name, kind in _ARRAYS.items()}
        roots = np.asarray(value["roots"], np.int32)
        forest = Forest(int(value["features"]), float(value["baseline"]), int(value["depth"]), roots, **arrays)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise EstimatorError(f"malformed trees: {error}", hint="fit the estimator again") from error
    problem = _problem(forest)
    if problem:
        raise EstimatorError(f"malformed trees: {problem}", hint="fit the estimator again")
    return forest


def _problem(forest: Forest) -> str:
    arrays = [getattr(forest, name) for name in _ARRAYS]
    count = len(forest.value)
    if forest.roots.ndim != 1 or any(array.shape != (count,) for array in arrays):
        return "arrays of different lengths"
    if not count or not 0 <= forest.depth <= 64:
        return "no nodes, or a depth outside of 0..64"
    for name, limit in (("roots", count), ("left", count), ("right", count), ("feature", forest.features)):
        indices = getattr(forest, name)
        if len(indices) and (indices.min() < 0 or indices.max() >= limit):
            return f"{name} points outside of its {limit} entries"
    finite = np.isfinite(forest.threshold).all() and np.isfinite(forest.value).all() and np.isfinite(forest.baseline)
    return "" if finite else "a threshold or value is not finite"
