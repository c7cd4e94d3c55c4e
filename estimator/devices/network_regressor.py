"""`NetworkModel` as a scikit-learn estimator, for its model selection and pipelines."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from .graph_arrays import GraphCounts
from .graph_table import Array
from .network_model import NetworkModel, fit_networks


class NetworkRegressor(RegressorMixin, BaseEstimator):
    """Latencies of graphs; `X` is a sequence of `GraphCounts`, so checks that hand over numbers do not apply.

    structure: whether to try the factor of surroundings beside the sum.
    sample: networks that hyper-parameters are found on.
    """

    model_: NetworkModel

    def __init__(self, *, structure: bool = True, sample: int = 500, random_state: int = 0) -> None:
        self.structure = structure
        self.sample = sample
        self.random_state = random_state

    def fit(self, X: Sequence[GraphCounts], y: ArrayLike) -> NetworkRegressor:
        """Fits to positive latencies `y` (graphs,); errors as those of `fit_networks`."""
        fit = fit_networks(X, y, structure=self.structure, sample=self.sample, seed=self.random_state)
        self.model_, self.left_out_ = fit.model, fit.left_out
        return self

    def predict(self, X: Sequence[GraphCounts]) -> Array:
        """Latencies (graphs,)."""
        check_is_fitted(self, "model_")
        return self.model_.predict(X).latency
