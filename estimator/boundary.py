"""What neighbouring steps hide of each other: when each step of a network ends, from the durations of each alone.

A step's weights may load during the steps before it (prefetch), from when the first of these begins and the load
queue is idle; its stores may end during the step after it (drain). All times in cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..export.planned import PlannedStep
from ..kernels.kernel import Role

_LOADED = (Role.WEIGHTS, Role.INCOMING)


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
    """Where the units are: the end of the last step's compute, of the last load and of the last store; from when on
    each step's own memory was free; which stores the next step and the one after it have to await; and the maps that
    have been stored."""

    ended: float = 0.0
    free: list[float] = field(default_factory=list)
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
    free = max(clock.ended, clock.awaited)
    clock.free.append(free)
    reads_stored, weights_first = bool(clock.maps.intersection(step.group.reads)), _weights_first(step)
    load_start = max(clock.loaded, clock.free[-1 - step.ahead] if weights_first else 0.0)
    if reads_stored and weights_first:  # weights and the last stores take turns on the DRAM channel
        load_end = load_start + durations.latency - durations.prefetched
        clock.stored += max(0.0, min(load_end, clock.stored) - max(load_start, clock.ended))
    ready = max(free, clock.stored if reads_stored else 0.0)
    load_start = load_start if weights_first else max(load_start, ready)
    hidden_end = ready + durations.prefetched
    end = max(hidden_end, load_start + durations.latency)
    if any(buffer.role in _LOADED for buffer in step.choice.buffers):
        clock.loaded = max(clock.loaded, _loaded(step, durations, load_start, ready, end))
    clock.ended = end
    clock.awaited = clock.awaited_later
    if step.stores:
        clock.stored = max(clock.stored, end) + durations.tail
        clock.awaited_later = clock.stored
        clock.awaited = clock.awaited if step.drain else clock.stored
        clock.maps.add(step.group.output)


def _loaded(step: PlannedStep, durations: Phases, load_start: float, ready: float, end: float) -> float:
    """When the last load is through the queue. Weight tiles beyond the slots wait for tiles before them to be used."""
    if _loads_maps(step):
        return end - durations.slack
    tiles, loading = _weight_tiles(step), durations.latency - durations.slack
    waiting = max(0, tiles - step.choice.tiling.slots)
    if not waiting:
        return load_start + loading
    channels, tile = step.subgraph.ops[-1].output[2], step.choice.tiling.channels
    used, last = waiting * tile / channels, (channels - (tiles - 1) * tile) / channels
    return max(load_start + loading, ready + durations.prefetched * used + loading * last)


def _weights_first(step: PlannedStep) -> bool:
    """True when the first loads are of weights, and do not wait for the memory or the stores of maps."""
    return not _loads_maps(step) or len(step.subgraph.ops) > 1 or _weight_tiles(step) == 1


def _loads_maps(step: PlannedStep) -> bool:
    return any(buffer.role is Role.INCOMING for buffer in step.choice.buffers)


def _weight_tiles(step: PlannedStep) -> int:
    return -(-step.subgraph.ops[-1].output[2] // step.choice.tiling.channels)
