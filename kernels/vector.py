"""Kernels of the vector unit. Maps are resident or stream in stripes of rows; `traits.py` tells the operators apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

from ..common.errors import UnsupportedError
from ..targets.cost import ceil_div
from ..targets.isa import NormMode, PoolMode, ResizeMode, Unit
from ..targets.spec import EngineSpec
from .builder import Builder, Ring, Value
from .conv import map_cycles, open_ring, tile_sizes
from .element_types import elements, input_type, output_type
from .function_ops import Norm, Reduce, Reduction, Resize, Softmax, Table
from .kernel import (
    Buffer,
    Estimate,
    Operands,
    Role,
    TensorRef,
    Tiling,
    add_fields,
    map_size,
    map_view,
    pipelined,
    range_fields,
    records_transfer,
    rows_transfer,
    splits,
    stage_fields,
    tile_view,
)
from .ops import Add, Pool2d, Window
from .subgraph import Memory, Subgraph
from .traits import channel_unit, channels_read, constant_bytes, opcode, row_unit, vector_op_work

_CONSTANTS = "constants"


class VectorKernel:
    """One vector operator. Space: rows per stripe × channels per stripe (channels only where rows cannot be cut)."""

    unit = Unit.VECTOR

    def space(self, subgraph: Subgraph, spec: EngineSpec) -> Sequence[Tiling]:
        op = subgraph.ops[0]
        height, _, channels = op.output
        if not subgraph.streams:
            return [Tiling(height, channels)]
        if height > row_unit(op):
            return [Tiling(rows, channels) for rows in splits(height, row_unit(op))]
        unit = channel_unit(op)
        step = min(channels, lcm(unit, spec.vector_lanes) if height == 1 else unit)
        return [Tiling(height, count) for count in splits(channels, step)]

    def buffers(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> tuple[Buffer, ...]:
        op = subgraph.ops[0]
        depth = min(2, _tiles(subgraph, tiling))
        size, stripe = input_type(op).bytes, tiling.rows * op.output[1] * tiling.channels
        found: list[Buffer] = []
        if constant_bytes(op):
            found.append(Buffer(_CONSTANTS, Role.WEIGHTS, constant_bytes(op)))
        if subgraph.input is not Memory.SRAM:
            rows = _input_rows(subgraph, tiling)
            held = rows * op.input[1] * tiling.channels * channels_read(op)
            found.append(Buffer("input", Role.INCOMING, held * size, depth))
        if subgraph.second not in (None, Memory.SRAM):
            gate = _is_gate(subgraph)
            held = (op.output[2] if gate else stripe) * size
            found.append(Buffer("second", Role.INCOMING, held, 1 if gate else depth))
        if subgraph.output is not Memory.SRAM:
            found.append(Buffer("output", Role.OUTGOING, stripe * output_type(op).bytes, depth))
        return tuple(found)

    def estimate(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> Estimate:
        op = subgraph.ops[0]
        kinds = elements(op)
        compute = sum(
            n_rows * n_channels * (spec.issue_cycles + vector_op_work(op, spec, (rows, op.output[1], channels)).cycles)
            for rows, n_rows in tile_sizes(op.output[0], tiling.rows)
            for channels, n_channels in tile_sizes(op.output[2], tiling.channels)
        )
        rows_in, chans_in = min(op.input[0], _input_rows(subgraph, tiling)), tiling.channels * channels_read(op)
        load = map_cycles(spec, subgraph.input, (rows_in, op.input[1], chans_in), op.input[2], kinds.first)
        stripe = (tiling.rows, op.output[1], tiling.channels)
        once = _constant_cycles(spec, subgraph)
        second = 0.0 if _is_gate(subgraph) else map_cycles(spec, subgraph.second, stripe, op.output[2], kinds.first)
        out = map_cycles(spec, subgraph.output, stripe, op.output[2], kinds.out)
        dma = _tiles(subgraph, tiling) * (load + second + out) + once
        last = compute / _tiles(subgraph, tiling)
        return pipelined(spec, compute, dma, first=once + load + second, last=last, tail=out)

    def emit(self, builder: Builder, subgraph: Subgraph, tiling: Tiling, operands: Operands) -> None:
        buffers = self.buffers(subgraph, builder.spec, tiling)
        rings = {b.name: open_ring(builder, b, operands, Unit.VECTOR) for b in buffers}
        emitter = _Emitter(builder, subgraph, tiling, operands, rings)
        emitter.load_constants()
        height, _, channels = subgraph.ops[0].output
        with builder.loop(ceil_div(height, tiling.rows)) as r, builder.loop(ceil_div(channels, tiling.channels)) as c:
            emitter.tile(r, c)


@dataclass(slots=True)
class _Emitter:
    """Emits the tiles of one operator; knows where each operand is."""

    builder: Builder
    subgraph: Subgraph
    tiling: Tiling
    operands: Operands
    rings: dict[str, Ring]
    constants: Value | int = 0
    gate: Value | int = 0

    def load_constants(self) -> None:
        """What every tile needs: tables and records, and the channel scales of a gate."""
        size = constant_bytes(self.subgraph.ops[0])
        if size:
            transfer = records_transfer(self.operands.records[0], size, 0, 1, 1)
            self.constants = self.builder.load(self.rings[_CONSTANTS], **transfer)
        second = self.operands.second
        if second is not None and _is_gate(self.subgraph):
            resident = "second" not in self.rings
            self.gate = (
                second.address if resident else self.builder.load(self.rings["second"], **rows_transfer(second, 0, 1))
            )

    def tile(self, r: Value, c: Value) -> None:
        op, tiling, operands = self.subgraph.ops[0], self.tiling, self.operands
        row, channel = tiling.first_row(r, op.output[0]), c * tiling.channels
        width_in, step = tiling.channels * channels_read(op), channels_read(op)
        source = self._view("input", "in", operands.input, self._input_span(r, row), (channel * step, width_in))
        fields = {
            **source,
            **map_size(op.input, operands.input.zero_point),
            **range_fields(op.output, row, tiling.rows, channel, tiling.channels),
            **stage_fields(operands.stages[0]),
            **self._second((row, tiling.rows), (channel, tiling.channels)),
        }
        slot = self.builder.reserve(self.rings["output"]) if "output" in self.rings else None
        if slot is None:
            fields |= map_view("out", operands.output)
        else:
            extent, dtype = (op.output[1], tiling.channels), operands.output.dtype
            fields |= tile_view("out", slot, extent, row0=row, chan0=channel, dtype=dtype)
        self.builder.emit(Unit.VECTOR, opcode(op), **fields, **self._settings())
        if slot is not None:
            transfer = rows_transfer(operands.output, row, tiling.rows, chan0=channel, channels=tiling.channels)
            self.builder.store(self.rings["output"], slot, **transfer)

    def _input_span(self, r: Value, row: Value) -> tuple[Value, int]:
        """First input row of a stripe, and how many it needs."""
        op, rows = self.subgraph.ops[0], _input_rows(self.subgraph, self.tiling)
        if "input" in self.rings and _tiles(self.subgraph, self.tiling) == 1:
            return Value(), rows
        if isinstance(op, Resize):
            if self.tiling.rows >= op.output[0]:
                return Value(), rows
            scale = op.vertical
            return r * (self.tiling.rows * scale.denominator // scale.numerator) + scale.index(0), rows
        window = _window(self.subgraph)
        return row * window.stride_h + (-window.pad_h), rows

    def _view(
        self, name: str, prefix: str, tensor: TensorRef, rows: tuple[Value, int], channels: tuple[Value, int]
    ) -> dict[str, Value | int]:
        """View of an operand tile, loaded first when it comes from DRAM."""
        if name not in self.rings:
            return map_view(prefix, tensor)
        (row0, count), (chan0, width) = rows, channels
        slot = self.builder.load(self.rings[name], **rows_transfer(tensor, row0, count, chan0=chan0, channels=width))
        return tile_view(prefix, slot, (tensor.shape[1], width), row0=row0, chan0=chan0, dtype=tensor.dtype)

    def _second(self, rows: tuple[Value, int], channels: tuple[Value, int]) -> dict[str, Value | int]:
        second = self.operands.second
        if second is None:
            return {}
        if _is_gate(self.subgraph):  # pitches of 0: every position reads the same vector
            view = tile_view("b", self.gate, (0, 0), row0=0, dtype=second.dtype)
        else:
            view = self._view("second", "b", second, rows, channels)
        return {**view, "b_zp": second.zero_point}

    def _settings(self) -> dict[str, Value | int]:
        """Fields of the operator itself."""
        op, stage = self.subgraph.ops[0], self.operands.stages[0]
        scale: dict[str, Value | int] = dict(zip(("multiplier", "shift"), stage.rescale, strict=True))
        match op:
            case Add():
                return add_fields(stage)
            case Pool2d():
                return _pool_fields(op, scale)
            case Table():
                return {"table_addr": self.constants}
            case Softmax():
                return {**scale, "mode": 0, "table_addr": self.constants}
            case Norm():
                return self._norm_fields(op)
            case Reduce():
                mode = PoolMode.MAX if op.mode is Reduction.MAX else PoolMode.SUM
                return {**scale, "mode": int(mode), "channels_in": op.count}
            case Resize():
                return {**scale, **_resize_fields(op)}
            case _:
                return scale

    def _norm_fields(self, op: Norm) -> dict[str, Value | int]:
        high, low = divmod(self.operands.epsilon, 2**31)
        return {
            "mode": int(NormMode.MAP if op.over_map else NormMode.POSITION), "group": op.group,
            "params_addr": self.constants, "params_chan0": 0, "eps_high": high, "eps_low": low,
        }  # fmt: skip


def _pool_fields(op: Pool2d, scale: dict[str, Value | int]) -> dict[str, Value | int]:
    w = op.window
    fields: dict[str, Value | int] = {
        "kernel_h": w.kernel_h, "kernel_w": w.kernel_w, "stride_h": w.stride_h, "stride_w": w.stride_w,
        "pad_h": w.pad_h, "pad_w": w.pad_w,
    }  # fmt: skip
    if op.maximum:  # maxima keep the scale of their input
        return {**fields, "mode": int(PoolMode.MAX), "multiplier": 0, "shift": 0}
    if (w.pad_h or w.pad_w) and not op.pads:
        raise UnsupportedError("an average over padded windows has no single divisor")
    return {**fields, **scale, "mode": int(PoolMode.SUM)}


def _resize_fields(op: Resize) -> dict[str, Value | int]:
    fields: dict[str, Value | int] = {"mode": int(ResizeMode.BILINEAR if op.bilinear else ResizeMode.NEAREST)}
    for axis, scale in (("h", op.vertical), ("w", op.horizontal)):
        fields[f"scale_{axis}_n"], fields[f"scale_{axis}_d"] = scale.numerator, scale.denominator
        fields[f"offset_{axis}"] = scale.offset
    return fields


def _constant_cycles(spec: EngineSpec, subgraph: Subgraph) -> float:
    """Cycles to load what is loaded once."""
    size = constant_bytes(subgraph.ops[0])
    gate = subgraph.second if _is_gate(subgraph) else None
    op = subgraph.ops[0]
    tables = map_cycles(spec, Memory.DRAM, (1, 1, size), size) if size else 0.0
    return tables + map_cycles(spec, gate, (1, 1, op.output[2]), op.output[2], input_type(op))


def _is_gate(subgraph: Subgraph) -> bool:
    return subgraph.second is not None and subgraph.second_shape != subgraph.ops[0].output


def _window(subgraph: Subgraph) -> Window:
    op = subgraph.ops[0]
    return op.window if isinstance(op, Pool2d) else Window(1, 1)


def _input_rows(subgraph: Subgraph, tiling: Tiling) -> int:
    """Input rows that the buffer of a stripe holds."""
    op = subgraph.ops[0]
    if isinstance(op, Pool2d) and _tiles(subgraph, tiling) == 1:
        return op.input[0]
    if isinstance(op, Resize):
        if tiling.rows >= op.output[0]:
            return op.input[0]
        scale = op.vertical
        return scale.index(tiling.rows - 1) - scale.index(0) + 2
    window = _window(subgraph)
    return (tiling.rows - 1) * window.stride_h + window.kernel_h


def _tiles(subgraph: Subgraph, tiling: Tiling) -> int:
    height, _, channels = subgraph.ops[0].output
    return ceil_div(height, tiling.rows) * ceil_div(channels, tiling.channels)
