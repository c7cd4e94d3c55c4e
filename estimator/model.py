"""`PhaseModel`: one regressor per phase of a workload, with upper bounds and the box in which they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common.errors import EstimatorError
from .features import COLUMN, KINDS
from .physics import PHASES
from .regressor import PhysicsRegressor
from .validity import UpperBounds, ValidityBox


@dataclass(frozen=True, slots=True)
class Prediction:
    """Durations of one workload in cycles (see `physics.py`); `upper` is a factor on them, 1 or more."""

    latency: float
    prefetched: float
    slack: float
    tail: float
    upper: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class PhaseModel:
    """What `fit` learns and a file holds. Rows are those of `features.feature_matrix`."""

    regressors: Mapping[str, PhysicsRegressor]
    upper: UpperBounds
    box: ValidityBox

    def predict(self, x: NDArray[np.float64]) -> list[Prediction]:
        """One prediction per row; a kind that was never measured raises `UnsupportedError` naming it."""
        if not len(x):
            return []
        latency = self.regressors["latency"].predict(x)
        prefetched = np.minimum(self.regressors["prefetched"].predict(x), latency)
        slack = np.minimum(self.regressors["slack"].predict(x), latency)
        tail = np.zeros(len(x))
        stores = x[:, COLUMN["physics_tail"]] > 0
        if stores.any():
            tail[stores] = self.regressors["tail"].predict(x[stores])
        upper = self.upper.factors(x[:, COLUMN["kind"]].astype(int))
        columns = (latency, prefetched, slack, tail, upper, self.box.outside(x))
        return [Prediction(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def phase_regressor(phase: str, *, trees: int, random_state: int) -> PhysicsRegressor:
    """An unfitted regressor that reads the columns of `phase`."""
    return PhysicsRegressor(
        kind_column=COLUMN["kind"],
        physics_column=COLUMN[f"physics_{phase}"],
        bound_column=COLUMN[f"bound_{phase}"],
        kinds=tuple(str(kind) for kind in KINDS),
        trees=trees,
        random_state=random_state,
    )


def fit_phases(
    x: NDArray[np.float64], durations: Sequence[Mapping[str, float]], *, trees: int, random_state: int
) -> dict[str, PhysicsRegressor]:
    """A fitted regressor per phase; only workloads that store anything teach the tail."""
    found: dict[str, PhysicsRegressor] = {}
    for phase in PHASES:
        target = np.array([values[phase] for values in durations], np.float64)
        used = target > 0
        if not used.any():
            raise EstimatorError(f"no workload with a {phase} was measured", hint="fit with more networks")
        found[phase] = phase_regressor(phase, trees=trees, random_state=random_state).fit(x[used], target[used])
    return found
