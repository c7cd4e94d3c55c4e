"""Outputs that overwrite their own input with a lag.

A windowed operator that runs in stripes of rows may write over rows that no later stripe reads, if the output starts
far enough before the input. From the top, stripe [a, b) must end before input row a·stride − pad; from the bottom it
must begin behind the last row that it reads. Both directions are offered, so that a run of such operators moves to
and fro and not ever further.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.kernel import Tiling, splits
from ..kernels.ops import Conv2d, Pool2d
from ..kernels.search import Candidate, kernels
from ..kernels.subgraph import Memory, Subgraph
from ..targets.spec import EngineSpec
from .allocate import ALIGNMENT_BYTES
from .partition import Group, in_place_operand


@dataclass(frozen=True, slots=True)
class Lag:
    """How the output of one step lies over its input: `shift` bytes from the input's address to the output's."""

    shift: int
    choice: Candidate


def may_lag(group: Group, step: int, spans: dict[str, tuple[int, int]], where: dict[str, Memory]) -> bool:
    """True where the output could overwrite the input of a lone windowed operator behind its last reader."""
    op, lone = group.ops[0], len(group.ops) == 1
    if not lone or not isinstance(op, Conv2d | Pool2d) or group.second == group.input:
        return False
    resident = all(where[name] is Memory.SRAM for name in (*group.reads, group.output))
    return resident and spans[group.input][1] == step and in_place_operand(group, step, spans, where) is None


def lags(subgraph: Subgraph, spec: EngineSpec) -> list[Lag]:
    """Every stripe height and direction, largest stripes first. All weights are resident, since rows go outermost."""
    op = subgraph.ops[0]
    assert isinstance(op, Conv2d | Pool2d)
    kernel = kernels.get(subgraph.kind)
    found: list[Lag] = []
    for rows in splits(op.output[0]):
        if rows == op.output[0]:
            continue
        for bottom_up in (False, True):
            tiling = Tiling(rows, op.output[2], weights_outer=False, bottom_up=bottom_up)
            choice = Candidate(tiling, kernel.estimate(subgraph, spec, tiling), kernel.buffers(subgraph, spec, tiling))
            found.append(Lag(_shift(op, rows, bottom_up=bottom_up), choice))
    return found


def _shift(op: Conv2d | Pool2d, rows: int, *, bottom_up: bool) -> int:
    """Bytes from the input's address to the output's, the nearest that is safe; negative from the top."""
    height, width, channels = op.output
    row_bytes = width * channels
    stripes = [(a, min(height, a + rows)) for a in range(0, height, rows)]
    if bottom_up:
        return _up(max(_read_rows(op, a, b)[1] - a * row_bytes for a, b in stripes))
    return -_up(max(b * row_bytes - _read_rows(op, a, b)[0] for a, b in stripes))


def _up(size: int) -> int:
    return -(-max(0, size) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _read_rows(op: Conv2d | Pool2d, start: int, end: int) -> tuple[int, int]:
    """First byte and end of the input rows under output rows [start, end)."""
    height, width, channels = op.input
    w, row_bytes = op.window, width * channels
    first, last = start * w.stride_h - w.pad_h, (end - 1) * w.stride_h - w.pad_h + w.kernel_h
    return max(0, min(first, height)) * row_bytes, max(0, min(last, height)) * row_bytes
