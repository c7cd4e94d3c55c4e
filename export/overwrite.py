"""Outputs that overwrite their own input with a lag.

A windowed operator that runs in stripes of rows may write over rows that no later stripe reads, if the output starts
far enough before the input. From the top, stripe [a, b) must end before input row a·stride − pad; from the bottom it
must begin behind the last row that it reads. Both directions are offered, so that a run of such operators moves to
and fro and not ever further. A chain, which goes from the top only, has read all of a stripe before it writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.chain import stages
from ..kernels.element_types import input_bytes, input_type, output_bytes, output_type
from ..kernels.kernel import Tiling, splits
from ..kernels.ops import Conv2d, Pool2d
from ..kernels.search import Candidate, kernels
from ..kernels.subgraph import Memory, Subgraph
from ..targets.spec import EngineSpec
from .allocate import ALIGNMENT_BYTES
from .partition import Group, in_place_operand


@dataclass(frozen=True, slots=True)
class Lag:
    """How the output of one step lies over its input: `shift` bytes from the input's address to the output's, and
    `span_bytes` for both together."""

    shift: int
    span_bytes: int
    choice: Candidate


def may_lag(group: Group, step: int, spans: dict[str, tuple[int, int]], where: dict[str, Memory]) -> bool:
    """True where the output could overwrite the input of a windowed operator or chain behind its last reader."""
    if not group.plain or not isinstance(group.ops[0], Conv2d | Pool2d) or group.second == group.input:
        return False
    resident = all(where[name] is Memory.SRAM for name in (*group.reads, group.output))
    return resident and spans[group.input][1] == step and in_place_operand(group, step, spans, where) is None


def lags(subgraph: Subgraph, spec: EngineSpec) -> list[Lag]:
    """Every stripe height and direction, largest stripes first. All weights are resident, since rows go outermost."""
    kernel = kernels.get(subgraph.kind)
    found: list[Lag] = []
    for rows in splits(subgraph.ops[-1].output[0]):
        if rows == subgraph.ops[-1].output[0]:
            continue
        for bottom_up in (False, True) if len(subgraph.ops) == 1 else (False,):
            tiling = Tiling(rows, subgraph.ops[-1].output[2], weights_outer=False, bottom_up=bottom_up)
            buffers = kernel.buffers(subgraph, spec, tiling)
            shift = _shift(subgraph, rows, bottom_up=bottom_up)
            source, target = input_bytes(subgraph.ops[0]), output_bytes(subgraph.ops[-1])
            span = max(source, shift + target) - min(0, shift)
            found.append(Lag(shift, span, Candidate(tiling, kernel.estimate(subgraph, spec, tiling), buffers)))
    return found


def _shift(subgraph: Subgraph, rows: int, *, bottom_up: bool) -> int:
    """Bytes from the input's address to the output's, the nearest that is safe; negative from the top."""
    height, width, channels = subgraph.ops[-1].output
    row_bytes = width * channels * output_type(subgraph.ops[-1]).bytes
    stripes = [(a, min(height, a + rows)) for a in range(0, height, rows)]
    if bottom_up:
        return _up(max(_rows_read(subgraph, a, b)[1] - a * row_bytes for a, b in stripes))
    if len(subgraph.ops) == 1:
        return -_up(max(b * row_bytes - _rows_read(subgraph, a, b)[0] for a, b in stripes))
    return -_up(max((a * row_bytes - _chain_reads_from(subgraph, a, rows) for a, _ in stripes[1:]), default=0))


def _up(size: int) -> int:
    return -(-max(0, size) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _rows_read(subgraph: Subgraph, start: int, end: int) -> tuple[int, int]:
    """First byte and end of the input rows under output rows [start, end) of a single operator."""
    op = subgraph.ops[0]
    assert isinstance(op, Conv2d | Pool2d)
    height, width, channels = op.input
    w, row_bytes = op.window, width * channels * input_type(op).bytes
    first, last = start * w.stride_h - w.pad_h, (end - 1) * w.stride_h - w.pad_h + w.kernel_h
    return max(0, min(first, height)) * row_bytes, max(0, min(last, height)) * row_bytes


def _chain_reads_from(subgraph: Subgraph, start: int, rows: int) -> int:
    """First byte of the input that the stripe of a chain from output row `start` on, and any later one, reads.

    A stripe writes its output when all its inputs are read, so that only later stripes matter.
    """
    first = stages(subgraph.convs, rows)[0]
    height, width, channels = first.conv.input
    row = start // rows * first.rows * first.conv.window.stride_h + first.first_input_row
    return max(0, min(row, height)) * width * channels * input_type(first.conv).bytes
