"""Exact cycles of a convolution whose maps are resident: weight tiles load while the array works.

This is the cycle model of `targets/timing.py` written as a recurrence over weight tiles, for the one
loop that most networks are made of. It takes microseconds where building and timing a program takes a
millisecond; a property test holds the two equal.
"""

from __future__ import annotations

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


@lru_cache(maxsize=200_000)
def resident_conv(subgraph: Subgraph, tiling: Tiling, spec: EngineSpec, *, ahead: bool = False) -> Span:
    """Timing of the step alone; with `ahead`, its first weight tiles lie in SRAM already when it starts."""
    (conv,) = subgraph.convs
    full_tiles, rest = divmod(conv.output[2], tiling.channels)
    tiles = [tiling.channels] * full_tiles + ([rest] if rest else [])
    cycles = {size: _tile_cycles(subgraph, conv, size, spec) for size in {tiles[0], tiles[-1]}}
    reused = len(tiles) > tiling.slots
    clock = float(_SYNC) if reused else 0.0  # of the load queue; the first slots are handed out by one SIGNAL
    array = 0.0
    released: list[float] = []
    for number, size in enumerate(tiles):
        load, compute = cycles[size]
        arrived = 0.0
        if ahead and number < tiling.slots:
            clock = 0.0
        else:
            if reused:
                clock = max(clock + _SYNC, released[number - tiling.slots] if number >= tiling.slots else 0.0)
            clock += load
            arrived = clock + max(_SYNC, constants_latency(spec))
            clock += _SYNC
        array = max(array + _SYNC, arrived) + compute + (_SYNC if reused else 0)
        released.append(array)
    return Span(array + _SYNC, clock)


def _tile_cycles(subgraph: Subgraph, conv: Conv2d, channels: int, spec: EngineSpec) -> tuple[float, float]:
    """Cycles to load the weights of one tile, and to compute it, both with their issue."""
    load = constants_work(spec, 1, channels * record_pitch(conv), 1)
    compute = conv_work(
        spec, conv.output[0], conv.output[1], channels, conv.input[2], conv.window.kernel_h, conv.window.kernel_w,
        depthwise=conv.depthwise, residual=subgraph.second is not None,
        stride=(conv.window.stride_h, conv.window.stride_w), elements=elements(conv),
    )  # fmt: skip
    return spec.issue_cycles + load.cycles, spec.issue_cycles + compute.cycles
