"""`DeviceEstimator`: latency of networks on a device that was measured, with intervals and what they rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...common.errors import EstimatorError
from ..opgraph.fusion import NO_FUSION, FusionRules, fuse
from ..opgraph.graph import OperatorGraph
from ..opgraph.operator import Operator
from .card import DeviceCard
from .conformal import Intervals
from .graph_arrays import count_graph
from .network_model import NetworkModel
from .operator_model import OperatorRegressor, operator_class
from .scale import NetworkScale, plain_scale, scale_row


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """An operator of a network: how often it occurs, and the latency of one.

    alone: it belongs to a class that was measured alone; otherwise measured networks say what it costs.
    """

    operator: Operator
    count: int
    latency_us: float
    lower_us: float
    upper_us: float
    extrapolated: bool
    alone: bool = True


@dataclass(frozen=True, slots=True)
class DeviceEstimate:
    """Latency of one network. Nine measurements of ten lie between `lower_us` and `upper_us`.

    measured_us: where this very network was among the measurements. parts: where operators were measured alone.
    """

    latency_us: float
    lower_us: float
    upper_us: float
    extrapolated: bool
    measured_us: float | None
    parts: tuple[OperatorTime, ...]


@dataclass(frozen=True)
class DeviceEstimator:
    """What was fitted for one device: operators, whole networks, or both.

    scale, intervals: of networks as sums of operators, where both were measured.
    measured_us: latencies of measured networks by the digest of their graph, as given.
    fusion: which operators the device executes in one pass.
    """

    card: DeviceCard
    operators: OperatorRegressor | None = None
    networks: NetworkModel | None = None
    scale: NetworkScale | None = None
    intervals: Intervals | None = None
    measured_us: Mapping[str, float] = field(default_factory=dict)
    fusion: FusionRules = NO_FUSION

    def __post_init__(self) -> None:
        if self.operators is None and self.networks is None:
            raise EstimatorError("an estimator needs operators or networks", hint="calibrate again")

    def estimate(self, graph: OperatorGraph) -> DeviceEstimate:
        """The estimate of one network.

        Raises:
            UnsupportedError: an operator of a class that was never measured, which is not taken for free.
            EstimatorError: a network without operators.
        """
        if not graph.operators:
            raise EstimatorError("the network has no operators to execute")
        measured, fused = self.measured_us.get(graph.digest()), fuse(graph, self.fusion)
        if self.networks is not None:
            found = self.networks.predict([count_graph(fused)])
            ends = (float(found.latency[0]), float(found.lower[0]), float(found.upper[0]))
            return DeviceEstimate(*ends, bool(found.extrapolated[0]), measured, ())
        parts = self._parts(fused.operators)
        return DeviceEstimate(*self._sum(parts), any(part.extrapolated for part in parts), measured, parts)

    def _parts(self, operators: Sequence[Operator]) -> tuple[OperatorTime, ...]:
        """Distinct operators, those that take longest first."""
        assert self.operators is not None
        alone, others = split_operators(Counter(operators), self._others)
        found = self.operators.predict_intervals(list(alone))
        columns = (found.latency, found.lower, found.upper, found.extrapolated)
        rows = zip(alone.items(), *(column.tolist() for column in columns), strict=True)
        parts = [OperatorTime(operator, count, *values) for (operator, count), *values in rows]
        for operator, count in others.items():
            cost = self._scale.other_us(operator)
            parts.append(OperatorTime(operator, count, cost, cost, cost, extrapolated=False, alone=False))
        return tuple(sorted(parts, key=lambda part: -part.count * part.latency_us))

    def _sum(self, parts: Sequence[OperatorTime]) -> tuple[float, float, float]:
        """Without measured networks the operators' errors are taken to point the same way: wide, but never too sure."""
        others = [part.operator for part in parts if not part.alone for _ in range(part.count)]
        counts = np.array([part.count for part in parts if part.alone])
        ends = np.array([(part.latency_us, part.lower_us, part.upper_us) for part in parts if part.alone]).reshape(
            -1, 3
        )
        rows = np.array([scale_row(np.repeat(end, counts), others) for end in ends.T])
        sums = self._scale.network_us(rows).tolist()
        if self.intervals is None:
            return sums[0], sums[1], sums[2]
        lower, upper = self.intervals.bounds([sums[0]])
        return sums[0], float(lower[0]), float(upper[0])

    @property
    def _scale(self) -> NetworkScale:
        return self.scale or plain_scale()

    @property
    def _others(self) -> frozenset[str]:
        return self._scale.others


def split_operators(
    counts: Mapping[Operator, int], others: frozenset[str]
) -> tuple[dict[Operator, int], dict[Operator, int]]:
    """Operators whose class was measured alone, or is unknown altogether, and those of classes in `others`."""
    beside = {operator: count for operator, count in counts.items() if operator_class(operator) in others}
    return {operator: count for operator, count in counts.items() if operator not in beside}, beside
