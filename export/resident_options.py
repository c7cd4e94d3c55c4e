"""`tiling.options` of lone convolutions whose maps are resident, in a fraction of the time and of the memory.

Most steps of most networks are such convolutions, and a screening meets thousands of new ones. Their tilings differ
in nothing but the channels of a weight tile, so that a row of four numbers stands for each; tests hold the options
equal to those of the general way.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from ..kernels.kernel import Tiling, pipelined, splits
from ..kernels.ops import Conv2d
from ..kernels.pipeline import TileCycles, resident_span
from ..kernels.subgraph import Memory, Subgraph
from ..targets.spec import EngineSpec
from .tiling import SHORTLIST, WORTH_TIMING

_SLOTS = Tiling(1, 1).slots  # weight tiles in SRAM at once


class BareOption(NamedTuple):
    """What an `Option` says of cycles, and the bytes of its workspace."""

    alone: float
    least: float
    loading: float | None
    workspace_bytes: int


class _Row(NamedTuple):
    """A tiling by its closed form: all cycles, and the busier of array and DMA. Rows sort as `candidates` does."""

    cycles: float
    workspace_bytes: int
    place: int
    busy: float
    channels: int


def is_resident(subgraph: Subgraph) -> bool:
    """True for what this module covers: one convolution, no map of which passes through DRAM."""
    lone = len(subgraph.ops) == 1 and isinstance(subgraph.ops[0], Conv2d)
    return lone and subgraph.input is subgraph.output is Memory.SRAM and subgraph.second in (None, Memory.SRAM)


class ResidentTilings:
    """The tilings of one resident convolution that some SRAM of the engine could hold, cheapest first."""

    __slots__ = ("_conv", "_cycles", "_rows", "_spec")

    def __init__(self, subgraph: Subgraph, spec: EngineSpec) -> None:
        (self._conv,), self._spec = subgraph.convs, spec
        self._cycles = TileCycles(self._conv, spec, residual=subgraph.second is not None)
        sizes = splits(self._conv.output[2], spec.output_lanes)
        rows = [self._row(place, channels) for place, channels in enumerate(sizes)]
        self._rows = sorted(row for row in rows if row.workspace_bytes <= spec.sram_bytes)

    @property
    def workspaces(self) -> tuple[int, ...]:
        """What the workspaces of the tilings take, ascending: between two of them the room makes no difference."""
        return tuple(sorted({row.workspace_bytes for row in self._rows}))

    def options(self, limit_bytes: float) -> tuple[BareOption, ...]:
        """The best few whose workspace fits into `limit_bytes`; none where none does."""
        fitting = [row for row in self._rows if row.workspace_bytes <= limit_bytes]
        if not fitting:
            return ()
        hidden = sorted(fitting, key=lambda row: (row.busy, row.workspace_bytes))
        limit = fitting[0].cycles * WORTH_TIMING
        found = dict.fromkeys((*fitting[:SHORTLIST], *hidden[:SHORTLIST]))
        return tuple(self._option(row) for row in found if row.busy <= limit)

    def _tiles(self, channels: int) -> list[tuple[float, float]]:
        full, rest = divmod(self._conv.output[2], channels)
        return [self._cycles.of(channels)] * full + ([self._cycles.of(rest)] if rest else [])

    def _row(self, place: int, channels: int) -> _Row:
        """The closed form of `ConvKernel.estimate` where no map moves."""
        tiles = self._tiles(channels)
        count, first, last = len(tiles), tiles[0], tiles[-1]
        if first is last:
            dma, compute = count * first[0], count * first[1]
        else:
            dma, compute = (count - 1) * first[0] + last[0], (count - 1) * first[1] + last[1]
        dma = dma * count / count  # rounded as there
        found = pipelined(self._spec, compute, dma, first=first[0], last=compute / count, tail=0.0)
        workspace = self._cycles.record_bytes * channels * min(_SLOTS, count)
        return _Row(found.cycles, workspace, place, max(compute, dma), channels)

    def _option(self, row: _Row) -> BareOption:
        tiles = self._tiles(row.channels)
        alone = resident_span(tiles, _SLOTS, self._spec)
        ahead = resident_span(tiles, _SLOTS, self._spec, ahead=True)
        return BareOption(ceil(max(alone.ended, alone.loaded)), ahead.ended, alone.loaded, row.workspace_bytes)
