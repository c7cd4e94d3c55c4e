"""Exact DRAM bytes of a workload, counted from its tiling without emitting it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from ..common.errors import UnsupportedError
from ..kernels.chain import stages
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.element_types import input_bytes, input_type, output_bytes, second_type
from ..kernels.function_ops import Resize
from ..kernels.kernel import Tiling, held_bytes, input_rows, weight_bytes
from ..kernels.ops import Op, Pool2d, Window
from ..kernels.subgraph import VECTOR_KINDS, Kind, Memory, Subgraph
from ..targets.cost import ceil_div


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that cross the DRAM port."""

    read_bytes: int
    written_bytes: int

    @property
    def dram_bytes(self) -> int:
        return self.read_bytes + self.written_bytes


def traffic(subgraph: Subgraph, tiling: Tiling) -> Traffic:
    """What the program of this subgraph loads and stores; a kind without a rule raises `UnsupportedError`."""
    if subgraph.kind not in _READS:
        raise UnsupportedError(f"no rule counts the DRAM bytes of a {subgraph.kind}")
    written = output_bytes(subgraph.ops[-1])
    read = _READS[subgraph.kind](subgraph, tiling)
    if subgraph.second not in (None, Memory.SRAM):
        read += prod(subgraph.second_shape) * second_type(subgraph.ops[-1]).bytes
    return Traffic(read, 0 if subgraph.output is Memory.SRAM else written)


def _conv_reads(subgraph: Subgraph, tiling: Tiling) -> int:
    (conv,) = subgraph.convs
    height, width, channels = conv.input
    row_tiles, channel_tiles = ceil_div(conv.output[0], tiling.rows), ceil_div(conv.output[2], tiling.channels)
    weights_once = tiling.weights_outer or channel_tiles == 1
    total = weight_bytes(conv) * (1 if weights_once else row_tiles)
    if subgraph.input is Memory.SRAM:
        return total
    starts = [r * tiling.rows * conv.window.stride_h - conv.window.pad_h for r in range(row_tiles)]
    rows = height if row_tiles == 1 else sum(_inside(start, input_rows(conv, tiling.rows), height) for start in starts)
    again = channel_tiles if tiling.weights_outer and not conv.depthwise else 1
    return total + rows * width * channels * again * input_type(conv).bytes


def _chain_reads(subgraph: Subgraph, tiling: Tiling) -> int:
    first, *_ = chain = stages(subgraph.convs, tiling.rows)
    height, width, channels = first.conv.input
    total = sum(weight_bytes(conv) for conv in subgraph.convs)
    if subgraph.input is Memory.SRAM:
        return total
    stripes, stride = ceil_div(chain[-1].conv.output[0], tiling.rows), first.conv.window.stride_h
    starts = [i * first.rows * stride + first.first_input_row for i in range(stripes)]
    rows = sum(_inside(start, first.input_rows(first.rows), height) for start in starts)
    if first.prologue:
        rows += _inside(-first.conv.window.pad_h, first.input_rows(first.prologue), height)
    return total + rows * width * channels * input_type(first.conv).bytes


def _vector_reads(subgraph: Subgraph, tiling: Tiling) -> int:
    op = subgraph.ops[0]
    constants = held_bytes(op)
    if subgraph.input is Memory.SRAM:
        return constants
    height, width, channels = op.input
    row_bytes = width * channels * input_type(op).bytes
    row_tiles = ceil_div(op.output[0], tiling.rows)
    if row_tiles == 1:
        rows = height if isinstance(op, Resize) or tiling.channels >= op.output[2] else _windows(op, tiling, 1)
        return constants + rows * row_bytes
    return constants + _windows(op, tiling, row_tiles) * row_bytes


def _cuboid_reads(subgraph: Subgraph, tiling: Tiling) -> int:
    """Constants and gathered tokens, whatever the tiles."""
    op = subgraph.ops[0]
    assert isinstance(op, CuboidAttention)
    return op.loaded_bytes + op.read_bytes


def _windows(op: Op, tiling: Tiling, row_tiles: int) -> int:
    """Input rows that the stripes load, together."""
    height = op.input[0]
    if isinstance(op, Resize):
        scale = op.vertical
        count = scale.index(tiling.rows - 1) - scale.index(0) + 2
        return sum(_inside(scale.index(r * tiling.rows), count, height) for r in range(row_tiles))
    window = op.window if isinstance(op, Pool2d) else Window(1, 1)
    count = (tiling.rows - 1) * window.stride_h + window.kernel_h
    starts = [r * tiling.rows * window.stride_h - window.pad_h for r in range(row_tiles)]
    return sum(_inside(start, count, height) for start in starts)


def _matmul_reads(subgraph: Subgraph, tiling: Tiling) -> int:
    """The first operand; the second is counted as every second operand is."""
    return 0 if subgraph.input is Memory.SRAM else input_bytes(subgraph.ops[0])


def _inside(start: int, count: int, limit: int) -> int:
    """How many of `count` rows from `start` on lie inside of the map."""
    return max(0, min(start + count, limit) - max(start, 0))


_READS: dict[Kind, Callable[[Subgraph, Tiling], int]] = {
    Kind.CONV2D: _conv_reads,
    Kind.DEPTHWISE: _conv_reads,
    Kind.LINEAR: _conv_reads,
    Kind.FUSED_BOTTLENECK: _chain_reads,
    Kind.INVERTED_BOTTLENECK: _chain_reads,
    Kind.CUBOID_ATTENTION: _cuboid_reads,
    Kind.MATMUL: _matmul_reads,
    **dict.fromkeys(VECTOR_KINDS, _vector_reads),
}
