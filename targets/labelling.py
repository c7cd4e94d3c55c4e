"""Time and work by label: which subgraph took the cycles, and what held it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from .costing import Cost, Coster
from .isa import Unit
from .program import Mark

_BUSY = 0.8  # share of its time from which on a label is held by compute, whatever was prefetched meanwhile


class TimedQueue(Protocol):
    """What the simulation leaves behind for each unit: data instructions by number, and times by label."""

    unit: Unit
    costers: list[Coster | None]
    labels: list[str]
    starts: dict[str, float]
    ends: dict[str, float]


@dataclass(frozen=True, slots=True)
class LabelTiming:
    """One label. Labels complete in program order; `cycles` is how much later this one completes than all before it,
    so that the cycles of all labels add up to the total. `start` may lie within an earlier label (prefetch).

    `array` .. `flash` are sums of the work of its instructions, in cycles; `bound` names what holds it:
    "array", "output", "vector", "memory" (DRAM or flash), "sram", or "overhead" (issue, latency, synchronisation).
    """

    label: str
    start: float
    end: float
    cycles: int
    array: float
    output: float
    vector: float
    sram: float
    dram: float
    flash: float
    dram_read_bytes: int
    dram_write_bytes: int
    macs: int
    vector_elements: int
    bound: str


def label_timings(
    marks: Iterable[Mark], queues: Sequence[TimedQueue], cycles: int, issue_cycles: int
) -> tuple[LabelTiming, ...]:
    """Labels in program order; `cycles` is the total."""
    names = list(dict.fromkeys([mark.label for mark in marks] + [name for queue in queues for name in queue.labels]))
    costs: dict[str, list[tuple[Unit, Cost]]] = {name: [] for name in names}
    for queue in queues:
        for name, coster in zip(queue.labels, queue.costers, strict=True):
            if coster is not None:
                costs[name] += [(queue.unit, cost) for cost in coster.costs()]
    found: list[LabelTiming] = []
    before = 0.0
    for number, name in enumerate(names):
        end = max(before, *(queue.ends.get(name, 0.0) for queue in queues))
        start = min((queue.starts[name] for queue in queues if name in queue.starts), default=before)
        own = (cycles if number + 1 == len(names) else ceil(end)) - ceil(before)
        found.append(_label_timing(name, start, end, own, costs[name], issue_cycles))
        before = end
    return tuple(found)


def _label_timing(
    name: str, start: float, end: float, cycles: int, costs: list[tuple[Unit, Cost]], issue_cycles: int
) -> LabelTiming:
    sums = dict.fromkeys(("array", "output", "vector", "sram", "dram", "flash"), 0.0)
    read = written = macs = elements = 0
    for _, cost in costs:
        for resource in sums:
            sums[resource] += cost.hits * getattr(cost.work, resource)
        read += cost.hits * cost.dram_read_bytes
        written += cost.hits * cost.dram_write_bytes
        macs += cost.hits * cost.macs
        elements += cost.hits * cost.vector_elements
    return LabelTiming(
        name, start, end, cycles, **sums, dram_read_bytes=read, dram_write_bytes=written, macs=macs,
        vector_elements=elements, bound=_bound(costs, cycles, issue_cycles),
    )  # fmt: skip


def _bound(costs: list[tuple[Unit, Cost]], cycles: int, issue_cycles: int) -> str:
    """Time goes to the resource that made an instruction last; the busier side, compute or DMA, holds the label."""
    compute: dict[str, float] = {"overhead": 0.0}
    transfer: dict[str, float] = {"overhead": 0.0}
    for unit, cost in costs:
        side = compute if unit in (Unit.ARRAY, Unit.VECTOR) else transfer
        resource = _longest(cost)
        side[resource] = side.get(resource, 0.0) + cost.hits * cost.cycles
        side["overhead"] += cost.hits * issue_cycles
    busy, moving = sum(compute.values()), min(sum(transfer.values()), cycles)
    side = compute if busy >= min(moving, _BUSY * cycles) else transfer
    if max(busy, moving) < cycles / 2:
        return "overhead"
    return _largest(side)


def _longest(cost: Cost) -> str:
    work = cost.work
    outside = max(work.dram, work.flash)
    return _largest(
        {"array": work.array, "output": work.output, "vector": work.vector, "memory": outside, "sram": work.sram}
    )


def _largest(values: Mapping[str, float]) -> str:
    return max(values, key=lambda name: values[name])
