"""What neighbouring steps hide of each other: when each step of a network ends, from the durations of each alone.

A step's weights may load during the step before it (prefetch), from when that step begins and the load
queue is idle; its stores may end during the step after it (drain). All times in cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..export.planned import PlannedStep
from ..kernels.kernel import Role


class Phases(Protocol):
    """Durations of one step, measured or predicted (see `physics.py`)."""

    @property
    def latency(self) -> float: ...
    @property
    def prefetched(self) -> float: ...
    @property
    def slack(self) -> float: ...
    @property
    def tail(self) -> float: ...


@dataclass(slots=True)
class _Clock:
    """Where the units are: ends of the last two steps' compute, of the last load and of the last store; which
    stores the next step and the one after it have to await; and the maps that have been stored."""

    ended: float = 0.0
    ended_before: float = 0.0
    loaded: float = 0.0
    stored: float = 0.0
    awaited: float = 0.0
    awaited_later: float = 0.0
    maps: set[str] = field(default_factory=set)


def step_cycles(steps: Sequence[PlannedStep], phases: Sequence[Phases]) -> list[float]:
    """Cycles that each step adds to the network; the last one includes its stores. Their sum is the latency."""
    clock = _Clock()
    ends: list[float] = []
    for step, durations in zip(steps, phases, strict=True):
        _advance(clock, step, durations)
        ends.append(clock.ended)
    if ends:
        ends[-1] = max(clock.ended, clock.stored)
    return [end - start for start, end in zip([0.0, *ends], ends, strict=False)]


def _advance(clock: _Clock, step: PlannedStep, durations: Phases) -> None:
    ready = max(clock.ended, clock.awaited, clock.stored if clock.maps.intersection(step.group.reads) else 0.0)
    load_start = max(clock.loaded, clock.ended_before if step.prefetch else ready)
    hidden_end = ready + durations.prefetched
    end = max(hidden_end, load_start + durations.latency)
    loaded_ahead = step.prefetch and end == hidden_end and _loads_ahead(step)
    clock.loaded = max(clock.loaded, min(ready, end - durations.slack) if loaded_ahead else end - durations.slack)
    clock.ended_before, clock.ended = ready, end
    clock.awaited = clock.awaited_later
    if step.stores:
        clock.stored = max(clock.stored, end) + durations.tail
        clock.awaited_later = clock.stored
        clock.awaited = clock.awaited if step.drain else clock.stored
        clock.maps.add(step.group.output)


def _loads_ahead(step: PlannedStep) -> bool:
    """True when every load of the step fits into its slots before the step begins."""
    incoming = any(buffer.role is Role.INCOMING for buffer in step.choice.buffers)
    tiles = -(-step.subgraph.ops[-1].output[2] // step.choice.tiling.channels)
    return not incoming and tiles <= 2
