"""Kernels of the vector unit: addition, pooling, requantisation. Maps are resident or stream in stripes of rows."""

from __future__ import annotations

from collections.abc import Sequence

from ..common.errors import UnsupportedError
from ..targets.cost import ceil_div, vector_work
from ..targets.isa import Opcode, PoolMode, Unit
from ..targets.spec import EngineSpec
from .builder import Builder, Ring, Value
from .conv import map_cycles, open_ring, tile_sizes
from .kernel import (
    Buffer,
    Estimate,
    Operands,
    Role,
    TensorRef,
    Tiling,
    add_fields,
    map_size,
    pipelined,
    range_fields,
    resident_view,
    rows_transfer,
    splits,
    stage_fields,
    tile_view,
)
from .ops import Pool2d, Window
from .subgraph import Memory, Subgraph


class VectorKernel:
    """One vector operator. Space: rows per stripe × channels per stripe (channels only where rows cannot be cut)."""

    unit = Unit.VECTOR

    def space(self, subgraph: Subgraph, spec: EngineSpec) -> Sequence[Tiling]:
        height, _, channels = subgraph.ops[0].output
        if not subgraph.streams:
            return [Tiling(height, channels)]
        if height > 1:
            return [Tiling(rows, channels) for rows in splits(height)]
        return [Tiling(1, count) for count in splits(channels, min(channels, spec.vector_lanes))]

    def buffers(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> tuple[Buffer, ...]:
        op = subgraph.ops[0]
        depth = min(2, _tiles(subgraph, tiling))
        stripe = tiling.rows * op.output[1] * tiling.channels
        found: list[Buffer] = []
        if subgraph.input is not Memory.SRAM:
            rows = op.input[0] if _tiles(subgraph, tiling) == 1 else _window_rows(subgraph, tiling.rows)
            found.append(Buffer("input", Role.INCOMING, rows * op.input[1] * tiling.channels, depth))
        if subgraph.second not in (None, Memory.SRAM):
            found.append(Buffer("second", Role.INCOMING, stripe, depth))
        if subgraph.output is not Memory.SRAM:
            found.append(Buffer("output", Role.OUTGOING, stripe, depth))
        return tuple(found)

    def estimate(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> Estimate:
        op = subgraph.ops[0]
        window = _window(subgraph)
        reads = window.taps if isinstance(op, Pool2d) else (2 if subgraph.second else 1)
        compute = sum(
            n_rows * n_channels * (spec.issue_cycles + vector_work(spec, rows * op.output[1] * channels, reads).cycles)
            for rows, n_rows in tile_sizes(op.output[0], tiling.rows)
            for channels, n_channels in tile_sizes(op.output[2], tiling.channels)
        )
        rows_in = min(op.input[0], _window_rows(subgraph, tiling.rows))
        load = map_cycles(spec, subgraph.input, (rows_in, op.input[1], tiling.channels), op.input[2])
        stripe = (tiling.rows, op.output[1], tiling.channels)
        second = map_cycles(spec, subgraph.second, stripe, op.output[2])
        out = map_cycles(spec, subgraph.output, stripe, op.output[2])
        dma = _tiles(subgraph, tiling) * (load + second + out)
        return pipelined(spec, compute, dma, first=load + second, last=compute / _tiles(subgraph, tiling), tail=out)

    def emit(self, builder: Builder, subgraph: Subgraph, tiling: Tiling, operands: Operands) -> None:
        rings = {
            b.name: open_ring(builder, b, operands, Unit.VECTOR) for b in self.buffers(subgraph, builder.spec, tiling)
        }
        height, _, channels = subgraph.ops[0].output
        with builder.loop(ceil_div(height, tiling.rows)) as r, builder.loop(ceil_div(channels, tiling.channels)) as c:
            _emit_tile(builder, subgraph, tiling, operands, rings, (tiling.first_row(r, height), c * tiling.channels))


def _emit_tile(
    builder: Builder,
    subgraph: Subgraph,
    tiling: Tiling,
    operands: Operands,
    rings: dict[str, Ring],
    start: tuple[Value, Value],
) -> None:
    op, (row, channel) = subgraph.ops[0], start
    window = _window(subgraph)
    rows_in = _window_rows(subgraph, tiling.rows)
    row_in = row * window.stride_h + (-window.pad_h)
    if "input" in rings and _tiles(subgraph, tiling) == 1:
        row_in, rows_in = Value(), op.input[0]
    fields = {
        **_view(builder, rings, "input", "in", operands.input, (row_in, rows_in), (channel, tiling.channels)),
        **map_size(op.input, operands.input.zero_point),
        **range_fields(op.output, row, tiling.rows, channel, tiling.channels),
        **stage_fields(operands.stages[0]),
    }
    if operands.second is not None:
        span = (row, tiling.rows)
        fields |= _view(builder, rings, "second", "b", operands.second, span, (channel, tiling.channels))
        fields["b_zp"] = operands.second.zero_point
    slot = builder.reserve(rings["output"]) if "output" in rings else None
    if slot is None:
        fields |= resident_view("out", operands.output.address, operands.output.shape)
    else:
        fields |= tile_view("out", slot, (op.output[1], tiling.channels), row0=row, chan0=channel)
    opcode, extra = _operation(subgraph, operands)
    builder.emit(Unit.VECTOR, opcode, **fields, **extra)
    if slot is not None:
        transfer = rows_transfer(operands.output, row, tiling.rows, chan0=channel, channels=tiling.channels)
        builder.store(rings["output"], slot, **transfer)


def _view(
    builder: Builder,
    rings: dict[str, Ring],
    name: str,
    prefix: str,
    tensor: TensorRef,
    rows: tuple[Value, int],
    channels: tuple[Value, int],
) -> dict[str, Value | int]:
    """View of an operand tile, loaded first when it comes from DRAM."""
    if name not in rings:
        return resident_view(prefix, tensor.address, tensor.shape)
    (row0, count), (chan0, width) = rows, channels
    slot = builder.load(rings[name], **rows_transfer(tensor, row0, count, chan0=chan0, channels=width))
    return tile_view(prefix, slot, (tensor.shape[1], width), row0=row0, chan0=chan0)


def _operation(subgraph: Subgraph, operands: Operands) -> tuple[Opcode, dict[str, Value | int]]:
    op, stage = subgraph.ops[0], operands.stages[0]
    if subgraph.second is not None:
        return Opcode.ADD, add_fields(stage)
    multiplier, shift = stage.rescale
    if not isinstance(op, Pool2d):
        return Opcode.REQUANTISE, {"multiplier": multiplier, "shift": shift}
    w = op.window
    fields: dict[str, Value | int] = {
        "kernel_h": w.kernel_h, "kernel_w": w.kernel_w, "stride_h": w.stride_h, "stride_w": w.stride_w,
        "pad_h": w.pad_h, "pad_w": w.pad_w,
    }  # fmt: skip
    if op.maximum:  # maxima keep the scale of their input
        return Opcode.POOL, {**fields, "mode": int(PoolMode.MAX), "multiplier": 0, "shift": 0}
    if w.pad_h or w.pad_w:
        raise UnsupportedError("an average over padded windows has no single divisor")
    return Opcode.POOL, {**fields, "mode": int(PoolMode.SUM), "multiplier": multiplier, "shift": shift}


def _window(subgraph: Subgraph) -> Window:
    op = subgraph.ops[0]
    return op.window if isinstance(op, Pool2d) else Window(1, 1)


def _window_rows(subgraph: Subgraph, rows: int) -> int:
    window = _window(subgraph)
    return (rows - 1) * window.stride_h + window.kernel_h


def _tiles(subgraph: Subgraph, tiling: Tiling) -> int:
    height, _, channels = subgraph.ops[0].output
    return ceil_div(height, tiling.rows) * ceil_div(channels, tiling.channels)
