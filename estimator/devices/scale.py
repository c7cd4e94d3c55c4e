"""From operators measured alone to whole networks.

An operator inside of a network finds other data in the caches than alone, a runtime spends time between operators,
and networks hold operators that nobody measured alone. A few non-negative costs say how much, by relative least
squares on measured networks. They lean on what holds when no network was measured: a network is the sum of its
operators. An operator that was not measured alone costs at least a part of the fastest one that was: never nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ...common.errors import EstimatorError
from ..opgraph.operator import Operator
from .shapes import COLUMN, shape_matrix

Array: TypeAlias = NDArray[np.float64]

COSTS = ("factor", "per_operator_us", "per_run_us", "per_other_us", "per_other_megabyte_us", "per_other_gigastep_us")
_LEAN = 0.1  # weight of the assumption beside one network
_LEAST = 0.1  # of the fastest operator's latency: the floor of those not measured alone


@dataclass(frozen=True, slots=True)
class NetworkScale:
    """costs: one for each of `COSTS`. others: classes that occur in measured networks but were not measured alone."""

    costs: tuple[float, ...]
    others: frozenset[str] = frozenset()

    def network_us(self, rows: Array) -> Array:
        """Latencies (networks,) of `scale_row`s."""
        return rows @ np.array(self.costs)

    def other_us(self, operator: Operator) -> float:
        """What an operator adds that was not measured alone."""
        return float(scale_row(np.zeros(0), (operator,))[3:] @ np.array(self.costs[3:]))

    def as_dict(self) -> dict[str, Any]:
        return {"costs": list(self.costs), "others": sorted(self.others)}


def plain_scale() -> NetworkScale:
    """What is known without measured networks: the sum."""
    return NetworkScale((1.0, *(0.0 for _ in COSTS[1:])))


def scale_row(alone_us: Array, others: Sequence[Operator]) -> Array:
    """A network as amounts of `COSTS`: latencies of its operators measured alone, and its other operators."""
    x = shape_matrix(others)
    traffic = x[:, [COLUMN[name] for name in ("input_bytes", "extra_bytes", "output_bytes", "weight_bytes")]].sum()
    steps = x[:, COLUMN["steps"]].sum()
    count = len(alone_us) + len(others)
    return np.array([alone_us.sum(), count, 1.0, len(others), traffic / 1e6, steps / 1e9])


def fit_scale(
    rows: Array, latency_us: Array, *, fastest_us: float, others: Iterable[str] = ()
) -> tuple[NetworkScale, Array]:
    """The scale of measured networks, and for each the latency that the others alone predict (networks,).

    rows: (networks, costs) by `scale_row`. fastest_us: latency of the fastest operator measured alone.
    """
    left_out = np.empty(len(rows))
    for index in range(len(rows)):
        kept = np.arange(len(rows)) != index
        left_out[index] = rows[index] @ _solve(rows[kept], latency_us[kept], fastest_us)
    return NetworkScale(tuple(_solve(rows, latency_us, fastest_us).tolist()), frozenset(others)), left_out


def _solve(rows: Array, latency_us: Array, fastest_us: float) -> Array:
    """Costs in units of what they make of a typical network, so that leaning is fair to all of them."""
    start = np.array([1.0, 0.0, 0.0, fastest_us, 0.0, 0.0])
    if not len(rows):
        return start
    relative = rows / latency_us[:, None]
    typical = relative.mean(0)
    size = np.where(typical > 0, typical, 1 / np.maximum(start, 1.0))
    table = np.vstack([relative / size, _LEAN * np.eye(len(COSTS))])
    found, _ = nnls(table, np.concatenate([np.ones(len(rows)), _LEAN * start * size]))
    costs = np.asarray(found / size, np.float64)
    costs[3] = max(costs[3], _LEAST * fastest_us)
    return costs


def scale_from_dict(value: Mapping[str, Any]) -> NetworkScale:
    """The inverse of `NetworkScale.as_dict`; a malformed value raises `EstimatorError`."""
    try:
        costs = tuple(float(cost) for cost in value["costs"])
        others = frozenset(str(name) for name in value["others"])
    except (KeyError, TypeError, ValueError) as error:
        raise EstimatorError(f"malformed scale: {error!r}", hint="calibrate again") from error
    if len(costs) != len(COSTS) or not all(isfinite(cost) and cost >= 0 for cost in costs) or not sum(costs) > 0:
        raise EstimatorError("malformed scale: costs are finite and not negative", hint="calibrate again")
    return NetworkScale(costs, others)
