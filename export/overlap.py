"""What the memory plan lets neighbouring steps do at the same time: weights that load ahead, tiles that drain late.

**Prefetch.** Loads are served in program order. Every weight tile gets the latest start at which no step waits for
it, from the last tile backwards: latest end = when its own compute begins, or when the next load has to start.
From these starts follow how many steps ahead the first tile loads and how many tiles SRAM holds at once. Where
memory is short, less of both, as much as hides most.

**Drain.** Tiles of an outgoing map may be stored while the step after computes.

What a choice of these is worth, `Timetable.expected_cycles` says: the same recurrence over weight tiles, forwards.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import floor, inf

from ..kernels.kernel import Buffer, Role
from ..kernels.search import Candidate, kernels
from ..kernels.subgraph import Subgraph
from ..targets.cost import ceil_div, constants_latency, constants_work, dma_work
from ..targets.spec import EngineSpec

_STEPS = 3  # that weights may always load ahead
_CYCLES = 32_768  # ... and further where the steps are short: SRAM is never held for weights much longer than that


@dataclass(frozen=True, slots=True)
class Overlap:
    """Of one step: how many steps ahead its weights load, how many weight tiles SRAM holds, whether stores drain."""

    ahead: int = 0
    slots: int = 1
    drain: bool = False


@dataclass(frozen=True, slots=True)
class _Loads:
    """The weight loads of one step: `tiles` of `tile_bytes`, each `cycles` long, used evenly over the step's time."""

    tiles: int
    tile_bytes: int
    cycles: float
    duration: float
    outgoing: int  # bytes of tiles on their way out
    tail: float  # cycles to store the last tile, part of the duration of a step that loads maps
    depth: int  # tiles that SRAM holds at least
    mapped: bool  # loads maps as well, which nothing of a later step may overtake
    streams: bool  # maps take turns with weights on the DRAM channel: loading further ahead would only move the wait
    waits: bool  # asks for weights again and again, each time behind maps


class Timetable:
    """When the weights of every step have to be there, and what each overlap of the steps costs."""

    def __init__(self, subgraphs: Sequence[Subgraph], chosen: Sequence[Candidate], spec: EngineSpec) -> None:
        self._loads = [_loads(subgraph, choice, spec) for subgraph, choice in zip(subgraphs, chosen, strict=True)]
        self._latency = constants_latency(spec)
        self._begins = _begins(self._loads)
        self._wanted = _wanted(self._loads, self._begins)
        self._bare = sum(choice.estimate.compute for choice in chosen) if spec.weight_decoder else None

    def overlaps(self, free: Sequence[int]) -> tuple[Overlap, ...]:
        """The overlap of every step. `free` are the bytes of SRAM at each step beside its maps and its workspace."""
        room = list(free)
        found: list[Overlap] = []
        for number, step in enumerate(self._loads):
            overlap = _prefetch(number, step, self._wanted[number], self._begins, room)
            drain = bool(number + 1 < len(room) and step.outgoing and step.outgoing <= room[number + 1])
            if drain:
                room[number + 1] -= step.outgoing
                overlap = replace(overlap, drain=True)
            found.append(overlap)
        return tuple(found)

    def expected_cycles(self, found: Sequence[Overlap]) -> float:
        """Cycles of all steps with these overlaps, so far as waiting for weights and for stores decides.

        A weight decoder makes loads shorter, by an amount that shapes do not say: the mean of the two extremes.
        """
        plain = self._cycles(found)
        return plain if self._bare is None else (plain + self._bare) / 2

    def _cycles(self, found: Sequence[Overlap]) -> float:
        begins: list[float] = []
        ended = loaded = 0.0
        for number, (step, overlap) in enumerate(zip(self._loads, found, strict=True)):
            begins.append(ended)
            start = max(loaded, begins[number - overlap.ahead])
            if step.mapped:
                hidden = min(overlap.slots * step.cycles, ended - start)  # negative: the load queue is busy
                ended = loaded = ended + step.duration - step.tail - hidden
            elif step.tiles:
                ended, loaded = _through(step, overlap.slots, ended, start, self._latency)
            else:
                ended += step.duration
            ended += 0.0 if overlap.drain else step.tail
        return ended


def _through(step: _Loads, slots: int, begin: float, start: float, latency: float) -> tuple[float, float]:
    """When the last tile of a step that begins at `begin` is computed, and loaded, if its loads begin at `start`."""
    period, array, clock = step.duration / step.tiles, begin, start
    released: list[float] = []
    for tile in range(step.tiles):
        clock = max(clock, released[tile - slots] if tile >= slots else 0.0) + step.cycles
        array = max(array, clock + latency) + period
        released.append(array)
    return array, clock


def with_slots(choice: Candidate, subgraph: Subgraph, spec: EngineSpec, slots: int) -> Candidate:
    """The same tiling with room for so many weight tiles."""
    if slots <= choice.tiling.slots:
        return choice
    tiling = replace(choice.tiling, slots=slots)
    return Candidate(tiling, choice.estimate, kernels.get(subgraph.kind).buffers(subgraph, spec, tiling))


@lru_cache(maxsize=50_000)
def _loads(subgraph: Subgraph, choice: Candidate, spec: EngineSpec) -> _Loads:
    weights = [buffer for buffer in choice.buffers if buffer.role is Role.WEIGHTS]
    mapped = any(buffer.role is Role.INCOMING for buffer in choice.buffers)
    once = len(subgraph.convs) != 1  # chains hold all weights, other operators their tables
    tiles = 1 if once else ceil_div(subgraph.ops[-1].output[2], choice.tiling.channels)
    return _Loads(
        tiles=tiles if weights else 0,
        tile_bytes=sum(buffer.slot_bytes for buffer in weights),
        cycles=sum(spec.issue_cycles + constants_work(spec, 1, buffer.slot_bytes, 1).cycles for buffer in weights),
        duration=choice.estimate.cycles if mapped else choice.estimate.compute,
        outgoing=sum(buffer.size_bytes for buffer in choice.buffers if buffer.role is Role.OUTGOING),
        tail=sum(_stored_cycles(spec, b) for b in choice.buffers if b.role is Role.OUTGOING),
        depth=max((buffer.depth for buffer in weights), default=0),
        mapped=mapped,
        streams=subgraph.streams,
        waits=mapped and tiles > 1,
    )


def _stored_cycles(spec: EngineSpec, buffer: Buffer) -> float:
    return dma_work(spec, 1, buffer.slot_bytes, 1).cycles + spec.dram_latency_cycles


def _begins(loads: Sequence[_Loads]) -> list[float]:
    """When each step would begin if none ever waited for weights."""
    begins = [0.0]
    for step in loads:
        begins.append(begins[-1] + step.duration)
    return begins


def _wanted(loads: Sequence[_Loads], begins: Sequence[float]) -> list[Overlap]:
    """Steps ahead and slots with which no step waits, if memory were free."""
    wanted: list[Overlap] = []
    limit = inf
    for number in range(len(loads) - 1, -1, -1):
        step, begin = loads[number], begins[number]
        if step.mapped:
            limit = inf  # what loads later waits for the maps of this step, whatever else
        slots, period = step.depth, step.duration / max(1, step.tiles)
        for tile in range(step.tiles - 1, -1, -1):
            limit = min(limit, begin + tile * period) - step.cycles
            used = min(step.tiles, max(0, floor((limit - begin) / period)))
            slots = max(slots, tile + 1 - used)
        first = max((i for i in range(number) if loads[i].streams), default=0)
        first = max(first, min(number - _STEPS, bisect_left(begins, begin - _CYCLES)))
        ahead = next((n for n in range(1, number - first + 1) if begins[number - n] <= limit), number - first)
        wanted.append(Overlap(ahead if step.tiles and not step.waits else 0, step.depth if step.mapped else slots))
    return wanted[::-1]


def _prefetch(number: int, step: _Loads, wanted: Overlap, begins: Sequence[float], room: list[int]) -> Overlap:
    """The part of `wanted` that fits and hides most; takes its memory from `room`."""
    best, most = Overlap(0, step.depth), -1.0
    for slots in range(wanted.slots, step.depth - 1, -1):
        extra, held = (slots - step.depth) * step.tile_bytes, slots * step.tile_bytes
        if extra > room[number]:
            continue
        ahead = next((n for n in range(wanted.ahead) if held > room[number - n - 1]), wanted.ahead)
        hidden = min(slots * step.cycles, begins[number] - begins[number - ahead])
        if hidden > most:
            best, most = Overlap(ahead, slots), hidden
    room[number] -= (best.slots - step.depth) * step.tile_bytes
    for before in range(number - best.ahead, number):
        room[before] -= best.slots * step.tile_bytes
    return best
