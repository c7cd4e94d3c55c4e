"""`NetworkModel`: latency of whole networks on a device of which nothing but measurements of networks is known.

latency = (Σ operator times + overhead) × exp(what surroundings add). Both factors are Gaussian processes
(`sum_process`, `structure_process`), fitted one after the other with relative errors; networks whose measurements the
others contradict count less (`robust`). The second factor is kept only if predictions of left-out training networks
gain from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import EstimatorError
from .conformal import Intervals, fit_intervals
from .graph_arrays import GraphCounts
from .graph_table import Array, GraphTable, Vocabulary, graph_table
from .robust import student_doubt
from .structure_process import StructureFit, StructureProcess, fit_structure
from .sum_process import SumFit, SumProcess, fit_sum

LEAST_NETWORKS = 10
Indices: TypeAlias = NDArray[np.int64]

_ROUNDS = 4
_SAMPLE = 500  # networks that hyper-parameters are found on; time grows with the cube
_FLOOR = 0.25  # a sum never falls below this part of the fastest training network
_CAP = 0.5  # log errors beyond it are all the same when models are compared
_STRANGE = 0.5  # of a network's operators by time: more of them unknown is extrapolation


@dataclass(frozen=True, slots=True)
class NetworkPrediction:
    """Latencies in the unit of the training latencies (networks,).

    lower, upper: where a measurement lies in nine of ten cases, for networks drawn like the training networks.
    extrapolated: larger or smaller than all training networks, or made of operators that none of them has.
    """

    latency: Array
    lower: Array
    upper: Array
    extrapolated: np.ndarray


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """A fitted model; `fit_networks` makes one.

    box: least and greatest sum of the training networks.
    """

    vocabulary: Vocabulary
    sum: SumProcess
    structure: StructureProcess | None
    intervals: Intervals
    box: tuple[float, float]

    def predict(self, graphs: Sequence[GraphCounts]) -> NetworkPrediction:
        """Latency, interval and validity of each network."""
        table = graph_table(graphs, self.vocabulary)
        base = self._base(table)
        factor = np.zeros(len(base)) if self.structure is None else self.structure.predict(table)[0]
        latency = base * np.exp(factor)
        lower, upper = self.intervals.bounds(latency)
        return NetworkPrediction(latency, lower, upper, self._outside(table, base))

    def _base(self, table: GraphTable) -> Array:
        return np.maximum(self.sum.predict(table.operators, table.counts), _FLOOR * self.box[0])

    def _outside(self, table: GraphTable, base: Array) -> np.ndarray:
        times = self.sum.operator_times(table.operators)
        times[: len(self.vocabulary.operators)] = 0
        strange = np.asarray(table.counts @ times) / base
        return (base < self.box[0]) | (base > self.box[1]) | (strange > _STRANGE)


@dataclass(frozen=True, slots=True)
class NetworkFit:
    """A model with what it predicts for each training network when that one is left out (networks,)."""

    model: NetworkModel
    left_out: Array
    error: float
    """Mean absolute log error of `left_out`, single errors capped."""


def fit_networks(
    graphs: Sequence[GraphCounts], latency: ArrayLike, *, structure: bool = True, sample: int = _SAMPLE, seed: int = 0
) -> NetworkFit:
    """Fits to positive latencies (networks,) of any unit.

    structure: whether to try the second factor.
    sample: networks that hyper-parameters are found on.

    Raises:
        EstimatorError: fewer than `LEAST_NETWORKS`, or a latency that is not positive and finite.
    """
    measured = np.asarray(latency, np.float64)
    _check(graphs, measured)
    vocabulary = Vocabulary.of(graphs)
    table = graph_table(graphs, vocabulary)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(measured))[:sample])
    first = _fit_sum(table, measured, chosen)
    floor = _FLOOR * float(first.fitted.min()) if first.fitted.min() > 0 else 1e-3 * float(np.median(measured))
    base, left_out = np.maximum(first.fitted, floor), np.maximum(first.left_out, floor)
    ratio = np.log(measured / base)
    second = _fit_structure(table, ratio, np.log(measured / left_out), chosen) if structure else None
    error, kept = _error(left_out, measured), None
    if second is not None and _error(left_out * np.exp(second.left_out), measured) < error:
        kept, left_out = second.process, left_out * np.exp(second.left_out)
        error = _error(left_out, measured)
    intervals = fit_intervals(left_out, measured)
    box = (float(base.min()), float(base.max()))
    return NetworkFit(NetworkModel(vocabulary, first.process, kept, intervals, box), left_out, error)


def _fit_sum(table: GraphTable, measured: Array, chosen: Indices) -> SumFit:
    """The sum, reweighted until contradicted measurements no longer pull it."""
    counts = np.asarray(table.counts.toarray(), np.float64)
    found = fit_sum(table.operators, counts, measured, scale=measured, doubt=np.ones(len(measured)), sample=chosen)
    floor = _FLOOR * float(np.quantile(measured, 0.01))
    for search in (False, True):
        for step in range(_ROUNDS):
            scale = np.maximum(found.fitted, floor)
            doubt = student_doubt(np.log(measured / np.maximum(found.left_out, floor)))
            kernel = None if search and step == 0 else found.process.kernel
            found = fit_sum(table.operators, counts, measured, scale=scale, doubt=doubt, kernel=kernel, sample=chosen)
    return found


def _fit_structure(table: GraphTable, log_ratio: Array, first: Array, chosen: Indices) -> StructureFit:
    """The same for the second factor; `first` are the log errors of the sum."""
    found = fit_structure(table, log_ratio, doubt=student_doubt(first), sample=chosen)
    for search in (False, True):
        for step in range(_ROUNDS):
            doubt = student_doubt(first - found.left_out)
            theta = None if search and step == 0 else found.process.theta
            found = fit_structure(table, log_ratio, doubt=doubt, theta=theta, sample=chosen)
    return found


def _error(predicted: Array, measured: Array) -> float:
    return float(np.mean(np.minimum(np.abs(np.log(predicted / measured)), _CAP)))


def _check(graphs: Sequence[GraphCounts], measured: Array) -> None:
    if measured.shape != (len(graphs),) or len(graphs) < LEAST_NETWORKS:
        raise EstimatorError(
            f"{len(graphs)} networks with latencies {measured.shape} are no basis for a fit",
            hint=f"measure at least {LEAST_NETWORKS} networks",
        )
    if not (np.isfinite(measured).all() and (measured > 0).all()):
        raise EstimatorError(f"network {int(np.argmin(measured > 0))} has a latency that is not positive and finite")
