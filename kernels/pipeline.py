"""Exact cycles of a convolution whose maps are resident: weight tiles load while the array works.

This is the cycle model of `targets/timing.py` written as a recurrence over weight tiles, for the one
loop that most networks are made of. It takes microseconds where building and timing a program takes a
millisecond; a property test holds the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..targets.cost import ceil_div, conv_work, dma_work
from ..targets.spec import EngineSpec
from .kernel import Tiling, record_pitch
from .ops import Conv2d
from .subgraph import Memory, Subgraph

_SLOTS = 2  # of the ring of weight tiles
_SYNC = 1  # cycles of WAIT and of SIGNAL


@dataclass(frozen=True, slots=True)
class Span:
    """Cycles from the start of a step until its array work is over, and until its last load has left the queue."""

    ended: float
    loaded: float


def is_resident_conv(subgraph: Subgraph) -> bool:
    """True for the subgraphs that `resident_conv` covers: one convolution, every map in SRAM."""
    maps = (subgraph.input, subgraph.output, subgraph.second or Memory.SRAM)
    return len(subgraph.ops) == 1 and bool(subgraph.convs) and all(memory is Memory.SRAM for memory in maps)


def resident_conv(subgraph: Subgraph, tiling: Tiling, spec: EngineSpec, *, ahead: bool = False) -> Span:
    """Timing of the step alone; with `ahead`, its first weight tiles lie in SRAM already when it starts."""
    (conv,) = subgraph.convs
    tiles = _channel_tiles(conv, tiling)
    reused = len(tiles) > _SLOTS
    full = _Weights(spec, conv, reused)
    released: list[float] = []
    array = 0.0
    known: dict[int, float] = {}
    for number, channels in enumerate(tiles):
        free = released[number - _SLOTS] if number >= _SLOTS else 0.0
        arrived = full.load(channels, free, hidden=ahead and number < _SLOTS)
        if channels not in known:
            known[channels] = spec.issue_cycles + _array_cycles(subgraph, conv, channels, spec)
        array = max(array + _SYNC, arrived) + known[channels] + (_SYNC if reused else 0)
        released.append(array)
    return Span(array + _SYNC, full.clock)


class _Weights:
    """The load queue: `clock` is when it can take the next instruction."""

    def __init__(self, spec: EngineSpec, conv: Conv2d, reused: bool) -> None:
        self._spec, self._pitch, self._reused = spec, record_pitch(conv), reused
        self.clock = float(_SYNC) if reused else 0.0  # the first slots are handed out by one SIGNAL

    def load(self, channels: int, free: float, *, hidden: bool) -> float:
        """Loads one tile into a slot that is free from `free` on; returns when it can be read."""
        if hidden:
            self.clock = 0.0
            return 0.0
        if self._reused:
            self.clock = max(self.clock + _SYNC, free)
        work = dma_work(self._spec, 1, channels * self._pitch, 1)
        self.clock += self._spec.issue_cycles + work.cycles
        arrived = max(self.clock + _SYNC, self.clock + self._spec.dram_latency_cycles)
        self.clock += _SYNC
        return arrived


def _channel_tiles(conv: Conv2d, tiling: Tiling) -> list[int]:
    total = conv.output[2]
    return [min(tiling.channels, total - n * tiling.channels) for n in range(ceil_div(total, tiling.channels))]


def _array_cycles(subgraph: Subgraph, conv: Conv2d, channels: int, spec: EngineSpec) -> float:
    return conv_work(
        spec, conv.output[0], conv.output[1], channels, conv.input[2], conv.window.taps,
        depthwise=conv.depthwise, residual=subgraph.second is not None,
    ).cycles  # fmt: skip
