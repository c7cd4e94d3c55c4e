"""`NetworkModel`: latency of whole networks on a device of which nothing but measurements of networks is known.

latency = (Σ operator times + overhead) × exp(what surroundings add). Both factors are Gaussian processes
(`sum_process`, `structure_process`), fitted one after the other with relative errors; networks whose measurements the
others contradict count less (`robust`). The second factor is kept only if predictions of left-out training networks
gain from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from ...common.errors import EstimatorError
from .conformal import Intervals, calibration_folds, fit_intervals
from .graph_arrays import GraphCounts
from .graph_table import Array, GraphTable, Vocabulary, graph_table
from .robust import student_doubt
from .structure_process import StructureFit, StructureProcess, fit_structure
from .sum_process import SumFit, SumProcess, fit_sum

LEAST_NETWORKS = 10
Indices: TypeAlias = NDArray[np.int64]

_ROUNDS = 4
_NEAR_ITERATIONS = 10  # of a search that begins where nearly the same networks ended
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
        base, latency = _predict(self.sum, self.structure, self.box[0], table)
        lower, upper = self.intervals.bounds(latency)
        return NetworkPrediction(latency, lower, upper, self._outside(table, base))

    def _outside(self, table: GraphTable, base: Array) -> np.ndarray:
        times = self.sum.operator_times(table.operators)
        times[: len(self.vocabulary.operators)] = 0
        strange = np.asarray(table.counts @ times) / base
        return (base < self.box[0]) | (base > self.box[1]) | (strange > _STRANGE)


def _predict(process: SumProcess, structure: StructureProcess | None, least: float, table: GraphTable) -> Any:
    """Sums and latencies (networks,)."""
    base = np.maximum(process.predict(table.operators, table.counts), _FLOOR * least)
    factor = np.zeros(len(base)) if structure is None else structure.predict(table)[0]
    return base, base * np.exp(factor)


@dataclass(frozen=True, slots=True)
class NetworkFit:
    """A model with what models without each training network predict for it (networks,)."""

    model: NetworkModel
    left_out: Array
    error: float
    """Mean absolute log error of `left_out`, single errors capped."""


@dataclass(frozen=True, slots=True)
class _Factors:
    """Both factors as fitted, whether the second is kept, the sums, and what each network is predicted as without
    itself but with hyper-parameters that know it."""

    sum: SumFit
    structure: StructureFit | None
    kept: bool
    base: Array
    left_out: Array

    def predict(self, table: GraphTable) -> Array:
        structure = self.structure.process if self.structure is not None and self.kept else None
        return _predict(self.sum.process, structure, float(self.base.min()), table)[1]


def fit_networks(
    graphs: Sequence[GraphCounts], latency: ArrayLike, *, structure: bool = True, sample: int = _SAMPLE, seed: int = 0
) -> NetworkFit:
    """Fits to positive latencies (networks,) of any unit.

    structure: whether to try the second factor.
    sample: networks that hyper-parameters are found on.

    Intervals rest on networks that everything was fitted without, hyper-parameters too (`calibration_folds`). So do
    `NetworkFit.left_out` and its error, except for networks of tables so large that not all folds are fitted.

    Raises:
        EstimatorError: fewer than `LEAST_NETWORKS`, or a latency that is not positive and finite.
    """
    measured = np.asarray(latency, np.float64)
    _check(graphs, measured)
    vocabulary = Vocabulary.of(graphs)
    table = graph_table(graphs, vocabulary)
    with threadpool_limits(1):  # as in `ResidualStack.fit`: small matrices, and often other work beside them
        fit = _fit_factors(table, measured, _chosen(len(measured), sample, seed), structure)
        left_out, intervals = _calibrate(fit, table, measured, sample, seed)
    box = (float(fit.base.min()), float(fit.base.max()))
    kept = fit.structure.process if fit.structure is not None and fit.kept else None
    model = NetworkModel(vocabulary, fit.sum.process, kept, intervals, box)
    return NetworkFit(model, left_out, _error(left_out, measured))


def explaining_error(graphs: Sequence[GraphCounts], latency: ArrayLike, *, structure: bool = True) -> float:
    """Mean absolute log error of left-out networks, single errors capped: enough to compare readings of the same
    networks, since hyper-parameters that have seen them flatter all readings alike. Errors as `fit_networks`."""
    measured = np.asarray(latency, np.float64)
    _check(graphs, measured)
    table = graph_table(graphs, Vocabulary.of(graphs))
    fit = _fit_factors(table, measured, _chosen(len(measured), _SAMPLE, 0), structure)
    return _error(fit.left_out, measured)


def _chosen(count: int, sample: int, seed: int) -> Indices:
    return np.sort(np.random.default_rng(seed).permutation(count)[:sample])


def _calibrate(
    fit: _Factors, table: GraphTable, measured: Array, sample: int, seed: int
) -> tuple[Array, Intervals]:  # fmt: skip
    """Predictions of left-out networks, and intervals from those that a fit without them made."""
    left_out, unseen = fit.left_out.copy(), np.zeros(len(measured), np.bool_)
    for fold in calibration_folds(len(measured), seed=seed):
        rest = np.setdiff1d(np.arange(len(measured)), fold)
        others = _chosen(len(rest), sample, seed)
        again = _fit_factors(table.rows(rest), measured[rest], others, fit.structure is not None, near=fit)
        left_out[fold], unseen[fold] = again.predict(table.rows(fold)), True
    return left_out, fit_intervals(left_out[unseen], measured[unseen])


def _fit_factors(
    table: GraphTable, measured: Array, chosen: Indices, structure: bool, near: _Factors | None = None
) -> _Factors:
    """Both factors. near: a fit to nearly the same networks, whose hyper-parameters the search begins at."""
    first = _fit_sum(table, measured, chosen, None if near is None else near.sum.process.kernel.theta)
    floor = _FLOOR * float(first.fitted.min()) if first.fitted.min() > 0 else 1e-3 * float(np.median(measured))
    base, left_out = np.maximum(first.fitted, floor), np.maximum(first.left_out, floor)
    if not structure:
        return _Factors(first, None, False, base, left_out)
    theta = None if near is None or near.structure is None else near.structure.process.theta
    second = _fit_structure(table, np.log(measured / base), np.log(measured / left_out), chosen, theta)
    corrected = left_out * np.exp(second.left_out)
    kept = _error(corrected, measured) < _error(left_out, measured)
    return _Factors(first, second, kept, base, corrected if kept else left_out)


def _fit_sum(table: GraphTable, measured: Array, chosen: Indices, near: Array | None) -> SumFit:
    """The sum, reweighted until contradicted measurements no longer pull it."""
    counts = np.asarray(table.counts.toarray(), np.float64)
    fit = partial(fit_sum, table.operators, counts, measured, sample=chosen)
    found = fit(scale=measured, doubt=np.ones(len(measured)), **_first_search(near))
    floor = _FLOOR * float(np.quantile(measured, 0.01))
    for step in range(2 * _ROUNDS):
        scale = np.maximum(found.fitted, floor)
        doubt = student_doubt(np.log(measured / np.maximum(found.left_out, floor)))
        more = _search(near) if step == _ROUNDS else {"kernel": found.process.kernel}
        found = fit(scale=scale, doubt=doubt, **more)
    return found


def _fit_structure(
    table: GraphTable, log_ratio: Array, first: Array, chosen: Indices, near: Array | None
) -> StructureFit:
    """The same for the second factor; `first` are the log errors of the sum."""
    fit = partial(fit_structure, table, log_ratio, sample=chosen)
    found = fit(doubt=student_doubt(first), **_first_search(near))
    for step in range(2 * _ROUNDS):
        doubt = student_doubt(first - found.left_out)
        found = fit(doubt=doubt, **(_search(near) if step == _ROUNDS else {"theta": found.process.theta}))
    return found


def _first_search(near: Array | None) -> dict[str, Any]:
    return {} if near is None else {"first": near, "iterations": 0}


def _search(near: Array | None) -> dict[str, Any]:
    return {} if near is None else {"first": near, "iterations": _NEAR_ITERATIONS}


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
