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
_PRICES = ((SLOWER, 0.5), (1.25, 1.0))  # cycles that less SRAM may cost, if it brings SRAM below this share
_STEP = 0.005  # of the SRAM of the plan for latency: the search ends when it knows the least limit to within so much


def smallest(graph: Graph, spec: EngineSpec, fast: Plan, planned: Callable[[int], Plan]) -> Plan:
    """The least SRAM for 5 % more time where that halves it, otherwise for up to 25 % more.

    Halves the interval of limits for `planned` down to the least one that keeps the time.
    """
    shapes = with_zero_weights(graph)
    cycles = _cycles(shapes, fast, spec)
    best = fast
    for slower, share in _PRICES:
        best = _least(shapes, spec, best, planned, slower * cycles)
        if best.sram_bytes <= share * fast.sram_bytes:
            break
    return best


def _least(graph: Graph, spec: EngineSpec, best: Plan, planned: Callable[[int], Plan], allowed: float) -> Plan:
    low, high, tolerance = 0, best.sram_bytes, max(16, _STEP * best.sram_bytes)
    while high - low > tolerance:
        limit = (low + high) // 2
        found = _within(limit, planned)
        if found is not None and _cycles(graph, found, spec) <= allowed:
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
