"""What is believed of a device before any of its networks was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ..opgraph.operator import Operator
from .descriptors import describe
from .graph_arrays import GraphCounts
from .graph_table import Array
from .network_model import NetworkModel
from .sum_process import START, OperatorKernel

TRUST = (0.03, 0.3, 1.0)
"""Deviation of a source's weight, in parts of the mean latency."""
OVERHEAD = 0.1
_ODDS = {"forward": 0.2, "identities": 0.3}  # what few runtimes do, against what many do


@dataclass(frozen=True, slots=True)
class Known:
    """Networks as the new device would read them, and what the sources say of them.

    graphs: (networks) under one reading. sources: (networks, sources) predicted latencies of the known devices.
    """

    graphs: Sequence[GraphCounts]
    sources: Array


def reading_odds(reading: str) -> float:
    """How likely a reading is beside the most usual ones."""
    return prod(odds for part, odds in _ODDS.items() if part in reading)


@dataclass(frozen=True, slots=True)
class Prior:
    """Operator times of any device, without a unit: `root` (operators, operators) is a factor of their covariance."""

    operators: tuple[Operator, ...]
    root: Array

    @classmethod
    def of(cls, readings: Sequence[Sequence[GraphCounts]]) -> Prior:
        """The prior for all operators of some networks under some readings."""
        operators = tuple(dict.fromkeys(op for graphs in readings for graph in graphs for op in graph.operators))
        average = np.mean([count_operators(graphs, operators).mean(0) for graphs in readings], axis=0)
        described = describe(operators)
        scales, spread = np.maximum(average @ described.physics, 1e-12), np.maximum(described.sizes.std(0), 1e-6)
        kernel = OperatorKernel(START, scales, spread)
        times = kernel(described, described) + np.diag(kernel.own * kernel.share(described) ** 2)
        values, vectors = np.linalg.eigh(times)
        return cls(operators, vectors * np.sqrt(np.maximum(values, 0)))

    def roots(self, graphs: Sequence[GraphCounts]) -> Array:
        """A factor of the covariance of latencies (networks, operators and overhead)."""
        rows = count_operators(graphs, self.operators) @ self.root
        return np.column_stack([rows, np.full(len(rows), OVERHEAD)])


def operator_times(source: NetworkModel) -> Mapping[Operator, float]:
    """What each operator takes on a known device."""
    return dict(zip(source.sum.operators, source.sum.times.tolist(), strict=True))


def along_sources(
    operators: Sequence[Operator], average: Array, tables: Sequence[Mapping[Operator, float]]
) -> Array:  # fmt: skip
    """Covariance of operator times (operators, operators) that are drawn from those of known devices.

    average: (operators,) count of each in the average network, which has a variance of one along each device.
    """
    found = np.zeros((len(operators), len(operators)))
    for table in tables:
        times = np.array([table.get(operator, 0.0) for operator in operators])
        found += np.outer(times, times) / max(float(average @ times), 1e-12) ** 2
    return found


def count_operators(graphs: Sequence[GraphCounts], operators: Sequence[Operator]) -> Array:
    """(networks, operators)."""
    column = {operator: index for index, operator in enumerate(operators)}
    found = np.zeros((len(graphs), len(operators)))
    for row, graph in enumerate(graphs):
        for operator, count in graph.operators.items():
            found[row, column[operator]] = count
    return found
