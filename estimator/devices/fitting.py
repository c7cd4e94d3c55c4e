"""Fits a `DeviceEstimator` from what the user has measured: operators, whole networks, or both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...common.errors import EstimatorError, TableError
from ...common.files import stable_hash
from ..metrics import Accuracy, accuracy
from ..opgraph.fusion import EPILOGUES, FusionRules, fuse
from ..opgraph.graph import OperatorGraph
from ..opgraph.operator import Operator
from ..tables.cells import Quantity
from ..tables.kernels import KernelTime
from .card import SPLIT, DeviceCard, accuracy_by_class, package_versions
from .conformal import Intervals, fit_intervals
from .estimator import DeviceEstimator, split_operators
from .graph_arrays import count_graph
from .machine import Machine
from .network_model import LEAST_NETWORKS, NetworkModel, fit_networks
from .operator_features import box_as_dict
from .operator_model import OperatorRegressor, operator_class
from .scale import NetworkScale, fit_scale, scale_row

Array: TypeAlias = NDArray[np.float64]

LEAST_KERNELS = 20
_UNIT_SLIP = np.log(1000)  # a latency in the wrong unit is off by this much
_SLIP_WIDTH = np.log(4)
_SLIP_SHARE = 0.2  # if more rows than this are off by a thousand, the model is at fault and not the rows


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network as an operator graph, and its latency."""

    name: str
    graph: OperatorGraph
    latency_us: float


@dataclass(frozen=True)
class Measurements:
    """All that is known of a device. sources: number of measurements by where they come from.

    quantity: of energies, every `latency_us` is µJ.
    """

    kernels: tuple[KernelTime, ...] = ()
    networks: tuple[MeasuredNetwork, ...] = ()
    sources: Mapping[str, int] = field(default_factory=dict)
    quantity: Quantity = Quantity.LATENCY

    def digest(self) -> str:
        kernels = sorted([kernel.operator.digest(), kernel.latency_us] for kernel in self.kernels)
        networks = sorted([network.graph.digest(), network.latency_us] for network in self.networks)
        return stable_hash([kernels, networks])


@dataclass(frozen=True)
class DeviceFit:
    """An estimator, and what it predicts for its own measurements when it has not seen them."""

    estimator: DeviceEstimator
    kernels_unseen_us: Array
    networks_unseen_us: Array


def fit_device(
    target: str,
    measurements: Measurements,
    *,
    machine: Machine | None = None,
    fusion: FusionRules = EPILOGUES,
    trees: int = 0,
    seed: int = 0,
    device: Mapping[str, str | float] | None = None,
) -> DeviceFit:
    """An estimator for `target`, a pure function of measurements, machine, fusion, trees and seed.

    trees: see `ResidualStack`.

    With operators and networks, a network is the scaled sum of its operators, unless a model of networks alone
    predicts left-out networks better.

    Raises:
        EstimatorError: too few measurements of either sort.
        TableError: kernels whose latency is off by a thousand, as if their row had another unit.
    """
    kernels, networks = measurements.kernels, measurements.networks
    _check(kernels, networks)
    operators = _fit_operators(kernels, machine, trees, seed) if kernels else None
    fused = [replace(network, graph=fuse(network.graph, fusion)) for network in networks]
    scale, intervals, summed = _fit_scale(operators, fused)
    model, unseen = _fit_networks(fused, seed, summed)
    estimator = DeviceEstimator(
        card=_card(target, measurements, operators, unseen, seed, device or {}),
        operators=operators,
        networks=model,
        scale=None if model is not None else scale,
        intervals=None if model is not None else intervals,
        measured_us={network.graph.digest(): network.latency_us for network in networks},
        fusion=fusion,
    )
    return DeviceFit(estimator, np.zeros(0) if operators is None else operators.unseen_latency_, unseen)


def _check(kernels: Sequence[KernelTime], networks: Sequence[MeasuredNetwork]) -> None:
    if kernels and len(kernels) < LEAST_KERNELS:
        raise EstimatorError(f"{len(kernels)} measured operators are too few", hint=f"measure {LEAST_KERNELS} or more")
    if not kernels and len(networks) < LEAST_NETWORKS:
        raise EstimatorError(
            f"{len(networks)} measured networks are too few to fit without measured operators",
            hint=f"measure {LEAST_NETWORKS} or more, or add operators",
        )


def _fit_operators(kernels: Sequence[KernelTime], machine: Machine | None, trees: int, seed: int) -> OperatorRegressor:
    latency_us = np.array([kernel.latency_us for kernel in kernels])
    found = OperatorRegressor(machine=machine, trees=trees, random_state=seed)
    found.fit([kernel.operator for kernel in kernels], latency_us)
    refuse_unit_slips(kernels, found.unseen_latency_)
    return found


def refuse_unit_slips(kernels: Sequence[KernelTime], unseen_us: Array) -> None:
    """Raises `TableError` for rows a thousand times off what all others say about them: milliseconds among
    microseconds, or the reverse."""
    ratio = np.log([kernel.latency_us for kernel in kernels]) - np.log(unseen_us)
    slipped = np.flatnonzero(np.abs(np.abs(ratio) - _UNIT_SLIP) < _SLIP_WIDTH)
    if len(slipped) and len(slipped) <= _SLIP_SHARE * len(kernels):
        rows = ", ".join(str(kernels[i].row) for i in slipped[:12])
        raise TableError(
            f"{len(slipped)} latencies are about a thousand times off what the other rows say: rows {rows}",
            hint="units are mixed; write all rows in the unit that the column names",
        )


def _fit_scale(
    operators: OperatorRegressor | None, networks: Sequence[MeasuredNetwork]
) -> tuple[NetworkScale | None, Intervals | None, Array]:
    """Networks as scaled sums, and what the others alone predict for each."""
    if operators is None or not networks:
        return None, None, np.zeros(0)
    measured = np.array([network.latency_us for network in networks])
    present = {operator_class(operator) for network in networks for operator in network.graph.operators}
    others = frozenset(present.difference(operators.class_names_))
    rows = np.array([_scale_row(network.graph.operators, operators, others) for network in networks])
    fastest = float(operators.unseen_latency_.min())
    scale, left_out = fit_scale(rows, measured, fastest_us=fastest, others=others)
    return scale, fit_intervals(left_out, measured), left_out


def _scale_row(operators: Sequence[Operator], model: OperatorRegressor, others: frozenset[str]) -> Array:
    alone, beside = split_operators(Counter(operators), others)
    latencies = np.repeat(model.predict(list(alone)), list(alone.values()))
    return scale_row(latencies, [operator for operator, count in beside.items() for _ in range(count)])


def _fit_networks(networks: Sequence[MeasuredNetwork], seed: int, summed: Array) -> tuple[NetworkModel | None, Array]:
    """A model of networks alone where it is needed or better, and the predictions of left-out networks that count."""
    if len(networks) < LEAST_NETWORKS:
        return None, summed
    measured = np.array([network.latency_us for network in networks])
    fit = fit_networks([count_graph(network.graph) for network in networks], measured, seed=seed)
    if len(summed) and _error(summed, measured) <= _error(fit.left_out, measured):
        return None, summed
    return fit.model, fit.left_out


def _error(predicted: Array, measured: Array) -> float:
    return float(np.mean(np.minimum(np.abs(np.log(predicted / measured)), 1.0)))


def _card(
    target: str,
    measurements: Measurements,
    operators: OperatorRegressor | None,
    networks_unseen: Array,
    seed: int,
    device: Mapping[str, str | float],
) -> DeviceCard:
    kernels: dict[str, Accuracy] = {}
    if operators is not None:
        measured = np.array([kernel.latency_us for kernel in measurements.kernels])
        classes = [operator_class(kernel.operator) for kernel in measurements.kernels]
        kernels = accuracy_by_class(operators.unseen_latency_, measured, classes)
    latencies = np.array([network.latency_us for network in measurements.networks])
    return DeviceCard(
        target=target,
        sources=dict(measurements.sources),
        data_hash=measurements.digest(),
        seed=seed,
        split=SPLIT,
        kernels=kernels,
        networks=accuracy(networks_unseen, latencies) if len(latencies) else None,
        box={} if operators is None else box_as_dict(operators.box_),
        device=dict(device),
        versions=package_versions(),
        quantity=str(measurements.quantity),
    )
