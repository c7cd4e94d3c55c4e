"""Exact cycles of a convolution whose maps are resident: weight tiles load while the array works.

This is the cycle model of `targets/timing.py` written as a recurrence over weight tiles, for the one
loop that most networks are made of. It takes microseconds where building and timing a program takes a
millisecond; a property test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..targets.cost import constants_latency, constants_work, conv_work
from ..targets.spec import EngineSpec
from .element_types import elements
from .kernel import Tiling, record_pitch
from .ops import Conv2d
from .subgraph import Subgraph

_SYNC = 1  # cycles of WAIT and of SIGNAL


@dataclass(frozen=True, slots=True)
class Span:
    """Cycles from the start of a step until its array work is over, and until its last load has left the queue."""

    ended: float
    loaded: float


def is_resident_conv(subgraph: Subgraph, tiling: Tiling) -> bool:
    """True for what `resident_conv` covers: one convolution, every map in SRAM, all rows at once."""
    whole = len(subgraph.convs) == len(subgraph.ops) == 1 and tiling.rows >= subgraph.ops[0].output[0]
    return whole and not subgraph.streams


class TileCycles:
    """Cycles that weight tiles of one convolution take, by their channels; `record_bytes` are those of one channel."""

    __slots__ = ("_conv", "_elements", "_known", "_residual", "_spec", "record_bytes")

    def __init__(self, conv: Conv2d, spec: EngineSpec, *, residual: bool) -> None:
        self._conv, self._spec, self._residual = conv, spec, residual
        self._elements, self.record_bytes = elements(conv), record_pitch(conv)
        self._known: dict[int, tuple[float, float]] = {}

    def of(self, channels: int) -> tuple[float, float]:
        """To load the weights of a tile, and to compute it, both with their issue; the same object for equal tiles."""
        found = self._known.get(channels)
        if found is None:
            found = self._known[channels] = self._tile(channels)
        return found

    def _tile(self, channels: int) -> tuple[float, float]:
        conv, window, spec = self._conv, self._conv.window, self._spec
        load = constants_work(spec, 1, channels * self.record_bytes, 1)
        compute = conv_work(
            spec, conv.output[0], conv.output[1], channels, conv.input[2], window.kernel_h, window.kernel_w,
            depthwise=conv.depthwise, residual=self._residual,
            stride=(window.stride_h, window.stride_w), elements=self._elements,
        )  # fmt: skip
        return spec.issue_cycles + load.cycles, spec.issue_cycles + compute.cycles


@lru_cache(maxsize=50_000)
def resident_conv(subgraph: Subgraph, tiling: Tiling, spec: EngineSpec, *, ahead: bool = False) -> Span:
    """Timing of the step alone; with `ahead`, its first weight tiles lie in SRAM already when it starts."""
    (conv,) = subgraph.convs
    cycles = TileCycles(conv, spec, residual=subgraph.second is not None)
    full_tiles, rest = divmod(conv.output[2], tiling.channels)
    tiles = [cycles.of(tiling.channels)] * full_tiles + ([cycles.of(rest)] if rest else [])
    return resident_span(tiles, tiling.slots, spec, ahead=ahead)


def resident_span(tiles: Sequence[tuple[float, float]], slots: int, spec: EngineSpec, *, ahead: bool = False) -> Span:
    """The recurrence over weight tiles, each with the cycles of its load and of its compute."""
    reused, latency = len(tiles) > slots, max(_SYNC, constants_latency(spec))
    clock = float(_SYNC) if reused else 0.0  # of the load queue; the first slots are handed out by one SIGNAL
    array = 0.0
    released: list[float] = []
    for number, (load, compute) in enumerate(tiles):
        arrived = 0.0
        if ahead and number < slots:
            clock = 0.0
        else:
            if reused:
                clock = max(clock + _SYNC, released[number - slots] if number >= slots else 0.0)
            clock += load
            arrived = clock + latency
            clock += _SYNC
        array = max(array + _SYNC, arrived) + compute + (_SYNC if reused else 0)
        released.append(array)
    return Span(array + _SYNC, clock)
