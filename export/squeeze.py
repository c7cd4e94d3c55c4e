"""The least SRAM that a network can do with, at little cost in time."""

from __future__ import annotations

from collections.abc import Callable

from ..common.errors import UnsupportedError
from ..targets.spec import EngineSpec
from ..targets.timing import simulate
from .blank import with_zero_weights
from .graph import Graph
from .lower import lower
from .planned import Plan

SLOWER = 1.05  # cycles that less SRAM may cost, relative to the plan for latency
_STEP = 0.01  # of the SRAM of that plan: the search ends when it knows the least limit to within so much


def smallest(graph: Graph, spec: EngineSpec, fast: Plan, planned: Callable[[int], Plan]) -> Plan:
    """Halves the interval of limits for `planned` down to the least one that keeps the time of `fast` within 5 %."""
    shapes = with_zero_weights(graph)
    allowed = SLOWER * _cycles(shapes, fast, spec)
    best, low, high = fast, 0, fast.sram_bytes
    while high - low > max(16, _STEP * fast.sram_bytes):
        limit = (low + high) // 2
        found = _within(limit, planned)
        if found is not None and _cycles(shapes, found, spec) <= allowed:
            best, high = found, min(limit, found.sram_bytes)
        else:
            low = limit
    return best


def _within(limit: int, planned: Callable[[int], Plan]) -> Plan | None:
    try:
        return planned(limit)
    except UnsupportedError:
        return None


def _cycles(graph: Graph, found: Plan, spec: EngineSpec) -> int:
    return simulate(lower(graph, found, spec)).cycles
