"""conv2d, depthwise and linear on the array, with an optional residual addition in the output stage.

Weights always stream from DRAM, one tile of output channels at a time, double buffered; feature
maps are resident in SRAM or stream through it in stripes of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..targets.cost import ceil_div, constants_work, conv_work, dma_work
from ..targets.isa import ConvMode, DType, Opcode, Unit
from ..targets.spec import EngineSpec
from .builder import Builder, Fence, Ring, Value
from .element_types import elements, input_type, output_type
from .kernel import (
    Buffer,
    Estimate,
    Operands,
    Role,
    Tiling,
    add_fields,
    input_rows,
    map_size,
    map_view,
    pipelined,
    range_fields,
    record_pitch,
    records_transfer,
    rows_transfer,
    splits,
    stage_fields,
    tile_view,
    window_fields,
)
from .ops import Conv2d
from .subgraph import Memory, Subgraph


@dataclass(frozen=True, slots=True)
class _Plan:
    """The loop structure that a tiling implies."""

    conv: Conv2d
    rows: int
    channels: int
    row_tiles: int
    channel_tiles: int
    weights_outer: bool

    @property
    def input_tiles(self) -> int:
        """How often a stripe of the input is loaded in all."""
        return self.row_tiles * (self.channel_tiles if self.weights_outer else 1)

    @property
    def input_channels(self) -> int:
        """Channels in a stripe: a depthwise tile needs only its own."""
        return self.channels if self.conv.depthwise else self.conv.input[2]

    @property
    def weight_tiles(self) -> int:
        once = self.weights_outer or self.channel_tiles == 1
        return self.channel_tiles * (1 if once else self.row_tiles)


def _plan(subgraph: Subgraph, tiling: Tiling) -> _Plan:
    conv = subgraph.convs[0]
    return _Plan(
        conv,
        tiling.rows,
        tiling.channels,
        ceil_div(conv.output[0], tiling.rows),
        ceil_div(conv.output[2], tiling.channels),
        tiling.weights_outer,
    )


class ConvKernel:
    """One convolution. Space: rows per stripe × output channels per weight tile × loop order."""

    unit = Unit.ARRAY

    def space(self, subgraph: Subgraph, spec: EngineSpec) -> Sequence[Tiling]:
        conv = subgraph.convs[0]
        rows = splits(conv.output[0]) if subgraph.streams else [conv.output[0]]
        channels = splits(conv.output[2], spec.output_lanes)
        orders = (True, False) if subgraph.streams and not conv.depthwise else (True,)
        return [
            Tiling(r, c, order) for r in rows for c in channels for order in (orders if c < conv.output[2] else (True,))
        ]

    def buffers(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> tuple[Buffer, ...]:
        p = _plan(subgraph, tiling)
        (in_h, in_w, _), (_, out_w, _) = p.conv.input, p.conv.output
        found = [Buffer("weights", Role.WEIGHTS, record_pitch(p.conv) * p.channels, min(tiling.slots, p.weight_tiles))]
        if subgraph.input is not Memory.SRAM:
            rows = input_rows(p.conv, p.rows) if p.row_tiles > 1 else in_h
            row_bytes = in_w * p.input_channels * input_type(p.conv).bytes
            found.append(Buffer("input", Role.INCOMING, rows * row_bytes, min(2, p.input_tiles)))
        tiles = p.row_tiles * p.channel_tiles
        tile_bytes = p.rows * out_w * p.channels * output_type(p.conv).bytes
        if subgraph.second not in (None, Memory.SRAM):
            found.append(Buffer("second", Role.INCOMING, tile_bytes, min(2, tiles)))
        if subgraph.output is not Memory.SRAM:
            found.append(Buffer("output", Role.OUTGOING, tile_bytes, min(2, tiles)))
        return tuple(found)

    def estimate(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> Estimate:
        p = _plan(subgraph, tiling)
        compute = sum(
            n * (spec.issue_cycles + self._work(p, spec, rows, channels, subgraph))
            for rows, n_rows in tile_sizes(p.conv.output[0], p.rows)
            for channels, n_channels in tile_sizes(p.conv.output[2], p.channels)
            for n in (n_rows * n_channels,)
        )
        weights = self._weights_cycles(p, spec, p.channels)
        all_weights = sum(
            n * self._weights_cycles(p, spec, size) for size, n in tile_sizes(p.conv.output[2], p.channels)
        )
        load = 0.0 if subgraph.input is Memory.SRAM else self._stripe_cycles(p, subgraph, spec)
        tile, size = (p.rows, p.conv.output[1], p.channels), output_type(p.conv)
        out = map_cycles(spec, subgraph.output, tile, p.conv.output[2], size)
        second = map_cycles(spec, subgraph.second, tile, p.conv.output[2], size)
        tiles = p.row_tiles * p.channel_tiles
        dma = all_weights * p.weight_tiles / p.channel_tiles + p.input_tiles * load + tiles * (out + second)
        return pipelined(spec, compute, dma, first=weights + load + second, last=compute / tiles, tail=out)

    def emit(self, builder: Builder, subgraph: Subgraph, tiling: Tiling, operands: Operands) -> None:
        p = _plan(subgraph, tiling)
        emitter = _ConvEmitter(builder, p, operands, tiling)
        buffers = self.buffers(subgraph, builder.spec, tiling)
        emitter.open(buffers, Role.WEIGHTS)
        resident = emitter.load_weights(Value()) if p.channel_tiles == 1 else None
        # What follows awaits the memory of the maps: weights that are loaded once do not.
        emitter.open(buffers, Role.INCOMING, Role.OUTGOING)
        if p.weights_outer:
            with builder.loop(p.channel_tiles) as c:
                weights = resident or emitter.load_weights(c)
                with builder.loop(p.row_tiles) as r:
                    emitter.tile(weights, emitter.load_input(r, c), r, c)
            return
        with builder.loop(p.row_tiles) as r:
            source = emitter.load_input(r, Value())
            with builder.loop(p.channel_tiles) as c:
                emitter.tile(resident or emitter.load_weights(c), source, r, c)

    @staticmethod
    def _work(p: _Plan, spec: EngineSpec, rows: int, channels: int, subgraph: Subgraph) -> float:
        conv = p.conv
        return conv_work(
            spec, rows, conv.output[1], channels, conv.input[2], conv.window.kernel_h, conv.window.kernel_w,
            depthwise=conv.depthwise, residual=subgraph.second is not None,
            stride=(conv.window.stride_h, conv.window.stride_w), elements=elements(conv),
        ).cycles  # fmt: skip

    @staticmethod
    def _weights_cycles(p: _Plan, spec: EngineSpec, channels: int) -> float:
        return constants_work(spec, 1, record_pitch(p.conv) * channels, 1).cycles + spec.issue_cycles

    @staticmethod
    def _stripe_cycles(p: _Plan, subgraph: Subgraph, spec: EngineSpec) -> float:
        height, width, channels = p.conv.input
        rows = min(height, input_rows(p.conv, p.rows))
        return map_cycles(spec, subgraph.input, (rows, width, p.input_channels), channels, input_type(p.conv))


class _ConvEmitter:
    """Emits the tiles of one convolution; knows where each operand is."""

    def __init__(self, builder: Builder, plan: _Plan, operands: Operands, tiling: Tiling) -> None:
        self.b, self.p, self.o, self.tiling = builder, plan, operands, tiling
        self.rings: dict[str, Ring] = {}
        self.pitch = record_pitch(plan.conv)

    def open(self, buffers: Sequence[Buffer], *roles: Role) -> None:
        """Opens the rings over the buffers of these roles; what is emitted later awaits their memory."""
        self.rings |= {b.name: open_ring(self.b, b, self.o) for b in buffers if b.role in roles}

    def load_weights(self, c: Value) -> Value:
        return load_records(self.b, self.rings["weights"], self.o, 0, self.p.conv, c, self.p.channels)

    def load_input(self, r: Value, c: Value) -> dict[str, Value | int]:
        """The input view for row tile `r`, loading its stripe first when the map is not resident.

        A stripe holds every channel, or for a depthwise convolution those of channel tile `c`.
        """
        source, window = self.o.input, self.p.conv.window
        if "input" not in self.rings:
            return map_view("in", source)
        if self.p.row_tiles == 1:
            row0: Value | int = 0
            rows = source.shape[0]
        else:
            row0 = r * (self.p.rows * window.stride_h) + (-window.pad_h)
            rows = input_rows(self.p.conv, self.p.rows)
        count = self.p.input_channels
        chan0 = c * count if count < source.shape[2] else 0
        slot = self.b.load(self.rings["input"], **rows_transfer(source, row0, rows, chan0=chan0, channels=count))
        return tile_view("in", slot, (source.shape[1], count), row0=row0, chan0=chan0, dtype=source.dtype)

    def tile(self, weights: Value, source: dict[str, Value | int], r: Value, c: Value) -> None:
        p, o = self.p, self.o
        row, channel = self.tiling.first_row(r, p.conv.output[0]), c * p.channels
        target, slot = self._target(row, channel)
        fields = {
            **source, **map_size(p.conv.input, o.input.zero_point), **window_fields(p.conv),
            "mode": int(ConvMode.DEPTHWISE if p.conv.depthwise else ConvMode.DENSE),
            "channels_in": 1 if p.conv.depthwise else p.conv.input[2],
            "weights_addr": weights, "weights_chan0": channel, "record_pitch": self.pitch,
            **range_fields(p.conv.output, row, p.rows, channel, p.channels),
        }  # fmt: skip
        emit_conv(self.b, fields, target, o, 0, self._second(row, channel))
        if slot is not None:
            transfer = rows_transfer(o.output, row, p.rows, chan0=channel, channels=p.channels)
            self.b.store(self.rings["output"], slot, **transfer)

    def _target(self, row: Value, channel: Value) -> tuple[dict[str, Value | int], Value | None]:
        if "output" not in self.rings:
            return map_view("out", self.o.output), None
        slot = self.b.reserve(self.rings["output"])
        width = self.p.conv.output[1]
        row_extent, dtype = (width, self.p.channels), self.o.output.dtype
        return tile_view("out", slot, row_extent, row0=row, chan0=channel, dtype=dtype), slot

    def _second(self, row: Value, channel: Value) -> dict[str, Value | int] | None:
        second = self.o.second
        if second is None:
            return None
        if "second" not in self.rings:
            return map_view("b", second)
        transfer = rows_transfer(second, row, self.p.rows, chan0=channel, channels=self.p.channels)
        slot = self.b.load(self.rings["second"], **transfer)
        extent = (second.shape[1], self.p.channels)
        return tile_view("b", slot, extent, row0=row, chan0=channel, dtype=second.dtype)


def emit_conv(
    builder: Builder,
    fields: dict[str, Value | int],
    target: dict[str, Value | int],
    operands: Operands,
    index: int,
    second: dict[str, Value | int] | None,
) -> None:
    """CONV, or CONV_ADD when `second` views a residual operand; `index` is the convolution's place in its chain."""
    stage = operands.stages[index]
    if second is None:
        builder.emit(Unit.ARRAY, Opcode.CONV, **fields, **target, **stage_fields(stage))
        return
    assert operands.second is not None
    total = operands.stages[index + 1]
    builder.emit(
        Unit.ARRAY, Opcode.CONV_ADD, **fields, **target, **stage_fields(total), **second, **add_fields(total),
        b_zp=operands.second.zero_point, conv_zp=stage.zero_point, conv_min=stage.clamp[0], conv_max=stage.clamp[1],
    )  # fmt: skip


def load_records(
    builder: Builder, ring: Ring, operands: Operands, index: int, conv: Conv2d, tile: Value, channels: int
) -> Value:
    """Loads weight tile number `tile`, of `channels` channels, of the convolution with that place in its chain."""
    address, pitch = operands.records[index], record_pitch(conv)
    packed = operands.packed.get(address)
    if packed is None:
        return builder.load(ring, **records_transfer(address, pitch, tile * channels, channels, conv.output[2]))
    return builder.load_sparse(ring, dram_addr=tile * packed + address, size=channels * pitch, packed=packed)


def open_ring(builder: Builder, buffer: Buffer, operands: Operands, unit: Unit = Unit.ARRAY) -> Ring:
    """The ring over one of the kernel's buffers; outgoing ones are filled by `unit`, the others read by it."""
    outgoing = buffer.role is Role.OUTGOING
    producer, consumer = (unit, Unit.DMA_OUT) if outgoing else (Unit.DMA_IN, unit)
    fence = operands.fences.get(buffer.name, Fence())
    return builder.ring(operands.buffers[buffer.name], buffer.slot_bytes, buffer.depth, producer, consumer, fence)


def tile_sizes(total: int, tile: int) -> list[tuple[int, int]]:
    """Sizes of the tiles that cover `total`, with how often each occurs."""
    full, rest = divmod(total, tile)
    return ([(tile, full)] if full else []) + ([(rest, 1)] if rest else [])


def map_cycles(
    spec: EngineSpec,
    memory: Memory | None,
    tile: tuple[int, int, int],
    channels: int,
    dtype: DType = DType.INT8,
) -> float:
    """Cycles to move one tile (rows, columns, channels) of a map with `channels` channels to or from DRAM."""
    if memory in (None, Memory.SRAM):
        return 0.0
    (rows, cols, chans), size = tile, dtype.bytes
    if memory is Memory.HOST and channels > 1 and rows * cols > 1:  # a vector is contiguous in either order
        work = dma_work(spec, rows * chans, cols * size, rows * cols * chans)
    elif chans == channels:
        work = dma_work(spec, 1, rows * cols * chans * size, 1)
    else:
        work = dma_work(spec, rows * cols, chans * size, rows * cols)
    return work.cycles + spec.issue_cycles
