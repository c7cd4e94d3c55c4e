"""`OperatorRegressor`: the latency of single operators on a measured device, with intervals.

Physics × learned residual. For each class of operators (kind and element type) a law of tactics (`tactics`) is fitted;
what it leaves over in log latency is learned from shapes, alignment and the law's own terms (`residual`). Intervals
are conformal by class, from predictions of rows that the model had not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from ...common.errors import EstimatorError, UnsupportedError
from ..opgraph.operator import CONVOLUTIONS, Kind, Operator
from .conformal import Intervals, fit_intervals, intervals_from_dict
from .machine import PACKS, UNITS, Machine, machine_from_dict
from .operator_features import Physics, box_of, feature_rows, outside, smooth_columns
from .residual import ResidualStack, Spread
from .shapes import shape_matrix
from .tactics import Law, Work, fit_law, gemm_work, law_from_list, stream_work, tile_areas

Array: TypeAlias = NDArray[np.float64]

_GEMMS = (*(kind for kind in CONVOLUTIONS if kind != Kind.DEPTHWISE), Kind.LINEAR, Kind.MATMUL)
_LAW_ROWS = 5000  # a law has about a hundred constants: more rows do not move them
_PROBE_ROWS = 1500  # rows and rounds that candidate machines are compared with
_PROBE_ROUNDS = 120
_BEYOND = 0.5  # how far a log residual may go beyond those that were seen


@dataclass(frozen=True, slots=True)
class OperatorPrediction:
    """Per operator, in the unit that was fitted: latency, the ends of its interval, and whether it extrapolates."""

    latency: Array
    lower: Array
    upper: Array
    extrapolated: NDArray[np.bool_]


def operator_class(operator: Operator) -> str:
    """Operators of one class share a law and intervals: kind and element type."""
    return f"{operator.kind} {operator.dtype}"


class OperatorRegressor(RegressorMixin, BaseEstimator):
    """Latencies of operators: `X` is a sequence of `Operator`, `y` their positive latencies in any one unit.

    machine: what is known of the device. Without it, units and packing are those that explain the measurements best.
    process_rows, trees: see `ResidualStack`.
    """

    def __init__(
        self, *, machine: Machine | None = None, process_rows: int = 2000, trees: int = 0, random_state: int = 0
    ) -> None:
        self.machine = machine
        self.process_rows = process_rows
        self.trees = trees
        self.random_state = random_state

    def fit(self, X: Sequence[Operator], y: ArrayLike) -> OperatorRegressor:
        """Raises `EstimatorError` for fewer than two operators, or latencies that are not positive and finite."""
        x, classes, target = shape_matrix(X), _classes(X), np.asarray(y, np.float64)
        if len(x) < 2 or target.shape != (len(x),) or not (np.isfinite(target).all() and (target > 0).all()):
            raise EstimatorError(
                f"expected a positive latency for each of two or more operators, got {target.shape} for {len(x)}",
                hint="take failed measurements out",
            )
        self.machine_ = self.machine or _best_machine(x, classes, target, self.random_state)
        self.laws_ = {
            str(name): self._fit_law(str(name), x[classes == name], target[classes == name])
            for name in np.unique(classes)
        }
        self.class_names_ = tuple(self.laws_)
        self._fit_residual(x, classes, target)
        return self

    def _fit_law(self, name: str, x: Array, y: Array) -> Law:
        chosen = np.random.default_rng(self.random_state).permutation(len(x))[:_LAW_ROWS]
        return fit_law(_work(name, x[chosen], self.machine_), _areas(name, self.machine_), y[chosen])[0]

    def _fit_residual(self, x: Array, classes: NDArray[np.str_], y: Array) -> None:
        physics = self._physics(x, classes)
        features = feature_rows(x, classes, self.class_names_, physics)
        residual = np.log(y) - physics.log_latency
        self.box_ = box_of(x, classes)
        self.limits_ = float(residual.min()) - _BEYOND, float(residual.max()) + _BEYOND
        self.residual_ = ResidualStack(
            smooth_columns=smooth_columns(features, physics),
            process_rows=self.process_rows,
            trees=self.trees,
            random_state=self.random_state,
        ).fit(features, residual)
        unseen = self.residual_.unseen_
        self.unseen_latency_ = self._latency(physics, unseen)
        self.intervals_: Intervals = fit_intervals(
            self.unseen_latency_, y, difficulty=unseen.difficulty, classes=classes.tolist()
        )

    def predict(self, X: Sequence[Operator]) -> Array:
        """Positive latencies (operators,)."""
        return self.predict_intervals(X).latency

    def predict_intervals(self, X: Sequence[Operator]) -> OperatorPrediction:
        """Latencies with intervals that hold nine measurements of ten.

        Raises:
            UnsupportedError: a class without measurements, which has no latency here and is never taken for zero.
        """
        check_is_fitted(self, "laws_")
        if not len(X):
            return OperatorPrediction(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, np.bool_))
        x, classes = shape_matrix(X), _classes(X)
        _refuse_unknown(classes, self.class_names_)
        physics = self._physics(x, classes)
        spread = self.residual_.spread(feature_rows(x, classes, self.class_names_, physics))
        latency = self._latency(physics, spread)
        lower, upper = self.intervals_.bounds(latency, difficulty=spread.difficulty, classes=classes.tolist())
        return OperatorPrediction(latency, lower, upper, outside(self.box_, x, classes))

    def _latency(self, physics: Physics, spread: Spread) -> Array:
        return np.exp(physics.log_latency + np.clip(spread.value, *self.limits_))

    def _physics(self, x: Array, classes: NDArray[np.str_]) -> Physics:
        width = max(len(_areas(name, self.machine_)) for name in self.laws_)
        log_latency, log_times = np.zeros(len(x)), np.full((len(x), width), np.inf)
        for name in np.unique(classes):
            rows = classes == name
            found, times = self.laws_[str(name)].evaluate(_work(str(name), x[rows], self.machine_))
            log_latency[rows] = found
            log_times[np.flatnonzero(rows)[:, None], np.arange(times.shape[1])] = times
        return Physics(log_latency, log_times)

    def fitted_state(self) -> dict[str, Any]:
        """Everything that `predict` needs, as JSON values."""
        check_is_fitted(self, "laws_")
        return {
            "machine": self.machine_.as_dict(),
            "laws": {name: law.constants.tolist() for name, law in self.laws_.items()},
            "limits": list(self.limits_),
            "box": {name: [low.tolist(), high.tolist()] for name, (low, high) in self.box_.items()},
            "residual": self.residual_.fitted_state(),
            "intervals": self.intervals_.as_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> OperatorRegressor:
        """The inverse of `fitted_state`; malformed state raises `EstimatorError`."""
        try:
            self.machine_ = machine_from_dict(state["machine"])
            self.laws_ = {
                str(name): law_from_list(value, _areas(name, self.machine_)) for name, value in state["laws"].items()
            }
            self.class_names_ = tuple(sorted(self.laws_))
            self.limits_ = float(state["limits"][0]), float(state["limits"][1])
            self.box_ = {
                str(name): (np.asarray(low, np.float64), np.asarray(high, np.float64))
                for name, (low, high) in state["box"].items()
            }
            self.residual_ = ResidualStack().restore(state["residual"])
            self.intervals_ = intervals_from_dict(state["intervals"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise EstimatorError(f"malformed operator model: {error}", hint="fit the estimator again") from error
        return self._checked()

    def _checked(self) -> OperatorRegressor:
        if not self.laws_ or set(self.box_) != set(self.laws_) or not np.isfinite(self.limits_).all():
            raise EstimatorError("malformed operator model: laws and box differ", hint="fit the estimator again")
        width = max(len(_areas(name, self.machine_)) for name in self.laws_)
        probe = Physics(np.zeros(1), np.zeros((1, width)))
        columns = feature_rows(shape_matrix([_PROBE]), np.array([self.class_names_[0]]), self.class_names_, probe)
        if columns.shape[1] != self.residual_.n_features_in_:
            raise EstimatorError("malformed operator model: it reads other features", hint="fit the estimator again")
        return self


_PROBE = Operator(Kind.RELU, ((1, 1, 1, 1),), (1, 1, 1, 1))


def _classes(operators: Sequence[Operator]) -> NDArray[np.str_]:
    return np.array([operator_class(operator) for operator in operators], np.str_)


def _refuse_unknown(classes: NDArray[np.str_], known: Sequence[str]) -> None:
    unknown = sorted(set(classes.tolist()).difference(known))
    if unknown:
        raise UnsupportedError(
            f"no {unknown[0]} was measured on this device" + (f", nor {', '.join(unknown[1:])}" if unknown[1:] else ""),
            hint=f"measure some of them and calibrate again; it knows {', '.join(known)}",
        )


def _is_gemm(name: str) -> bool:
    return name.split(" ")[0] in _GEMMS


def _work(name: str, x: Array, machine: Machine) -> Work:
    return gemm_work(x, machine) if _is_gemm(name) else stream_work(x, machine)


def _areas(name: str, machine: Machine) -> Array:
    return tile_areas(machine, stream=not _is_gemm(name))


def _best_machine(x: Array, classes: NDArray[np.str_], y: Array, seed: int) -> Machine:
    """Units, then packing, with the least error of the law of the class that was measured most."""
    names, counts = np.unique(classes, return_counts=True)
    products = [(count, name) for name, count in zip(names.tolist(), counts.tolist(), strict=True) if _is_gemm(name)]
    name = max(products)[1] if products else names[int(np.argmax(counts))]
    rows = np.flatnonzero(classes == name)
    rows = np.random.default_rng(seed).permutation(rows)[:_PROBE_ROWS]

    def loss(machine: Machine) -> float:
        work = _work(name, x[rows], machine)
        return fit_law(work, _areas(name, machine), y[rows], iterations=_PROBE_ROUNDS)[1]

    units = min(UNITS, key=lambda count: loss(Machine(count)))
    return min((Machine(units, pack) for pack in PACKS), key=loss)
