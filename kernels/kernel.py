"""What a kernel is: legal tilings, the buffers and cycles each one needs, and the program it emits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from ..targets.cost import ceil_div
from ..targets.isa import NO_LIMIT, RECORD_HEADER_BYTES, DType, Unit
from ..targets.spec import EngineSpec
from .builder import Builder, Fence, Value
from .element_types import weight_type
from .ops import Conv2d, Op, Shape
from .rescale import rescale_operands
from .subgraph import Memory, Subgraph
from .traits import constant_bytes

Rescale: TypeAlias = tuple[int, int]
_HALF = rescale_operands(0.5)


@dataclass(frozen=True, slots=True)
class Tiling:
    """One point of a kernel's space.

    `rows` output rows and `channels` output channels per tile; `weights_outer` keeps a weight tile
    while all row tiles pass by (otherwise a row tile stays while all weight tiles pass by). SRAM holds up to
    `slots` weight tiles at once: two let one load while the other is used, more let loads run further ahead.
    `bottom_up` takes row tiles from the last to the first (maps in SRAM only).
    """

    rows: int
    channels: int
    weights_outer: bool = True
    slots: int = 2
    bottom_up: bool = False

    def first_row(self, tile: Value, height: int) -> Value:
        """First output row of a row tile, given its number in execution order."""
        if not self.bottom_up:
            return tile * self.rows
        return tile * -self.rows + (ceil_div(height, self.rows) - 1) * self.rows


class Role(StrEnum):
    """What a buffer holds; weights may be prefetched, outgoing tiles may drain after the step."""

    WEIGHTS = "weights"
    INCOMING = "incoming"
    OUTGOING = "outgoing"
    ROLLING = "rolling"


@dataclass(frozen=True, slots=True)
class Buffer:
    name: str
    role: Role
    slot_bytes: int
    depth: int = 1

    @property
    def size_bytes(self) -> int:
        return self.slot_bytes * self.depth


@dataclass(frozen=True, slots=True)
class Estimate:
    """Closed-form cycles of a tiling: compute, DMA, and what neither can hide (first load, last store)."""

    compute: float
    dma: float
    exposed: float

    @property
    def cycles(self) -> float:
        return max(self.compute, self.dma) + self.exposed


def pipelined(spec: EngineSpec, compute: float, dma: float, *, first: float, last: float, tail: float) -> Estimate:
    """Compute and DMA that overlap tile by tile.

    Compute waits for the `first` transfers; DMA is followed by the `last` tile's compute; the last store,
    `tail`, follows both. Zero for what does not exist.
    """
    latency = spec.dram_latency_cycles
    stored = tail + latency if tail else 0.0
    held = max(compute + (first + latency if first else 0.0), dma - tail + (latency + last if dma > tail else 0.0))
    return Estimate(compute, dma, held + stored - max(compute, dma))


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A feature map in memory: SRAM address, or DRAM address in engine order (DRAM) or host order (HOST).

    `strides` are given for a map that is part of a larger one: bytes from row to row, channel to channel and column
    to column.
    """

    memory: Memory
    address: int
    shape: Shape
    zero_point: int = 0
    strides: tuple[int, int, int] | None = None
    dtype: DType = DType.INT8

    @property
    def steps(self) -> tuple[int, int, int]:
        """Bytes from row to row, channel to channel and column to column."""
        return self.strides or dense_strides(self.memory, self.shape, self.dtype)


def dense_strides(memory: Memory, shape: Shape, dtype: DType = DType.INT8) -> tuple[int, int, int]:
    """Bytes from row to row, channel to channel and column to column of a map that lies alone."""
    (height, width, channels), size = shape, dtype.bytes
    if memory is Memory.HOST:
        return width * size, height * width * size, size
    return width * channels * size, size, channels * size


@dataclass(frozen=True, slots=True)
class StageParams:
    """Output stage of one operator: zero point, clamp and element type of its result, RESCALE of lone operators,
    and the three RESCALEs of an addition (first operand, second operand, sum).

    Where floats take part, the clamp of a bf16 result and the multiplier of `rescale` are bits of a float32."""

    zero_point: int = 0
    clamp: tuple[int, int] = (-128, 127)
    rescale: Rescale = _HALF
    add: tuple[Rescale, Rescale, Rescale] = (_HALF, _HALF, _HALF)
    dtype: DType = DType.INT8


@dataclass(frozen=True, slots=True)
class Operands:
    """Everything that turns a subgraph into instructions on concrete memory.

    `stages` has one entry per operator and one more for a fused residual addition; `records` the
    DRAM address of the constants of each operator that has some (weight records of a convolution, tables ...);
    `packed` by that address the bytes of each weight tile, where they lie there without their zeros;
    `buffers` the SRAM address of each buffer; `epsilon` is what a normalisation adds to its scaled variance.
    """

    input: TensorRef
    output: TensorRef
    stages: tuple[StageParams, ...]
    second: TensorRef | None = None
    records: tuple[int, ...] = ()
    packed: Mapping[int, int] = field(default_factory=dict)
    epsilon: int = 0
    second_epsilon: int = 0
    extra: TensorRef | None = None
    buffers: Mapping[str, int] = field(default_factory=dict)
    fences: Mapping[str, Fence] = field(default_factory=dict)


class Kernel(Protocol):
    """A plug-in: `tests/kernel_conformance.py` says what any kernel must satisfy."""

    unit: Unit

    def space(self, subgraph: Subgraph, spec: EngineSpec) -> Sequence[Tiling]:
        """Every tiling that is legal for this shape and engine, whatever memory it takes."""
        ...

    def buffers(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> tuple[Buffer, ...]:
        """SRAM that the tiling needs beside the resident tensors."""
        ...

    def estimate(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> Estimate: ...

    def emit(self, builder: Builder, subgraph: Subgraph, tiling: Tiling, operands: Operands) -> None: ...


# --- shared arithmetic -------------------------------------------------------------------------


def record_pitch(conv: Conv2d) -> int:
    """Bytes from one output channel's record (bias, scale, weights) to the next; word aligned."""
    return 4 * ceil_div(RECORD_HEADER_BYTES + conv.weights_per_channel * weight_type(conv).bytes, 4)


def weight_bytes(conv: Conv2d) -> int:
    return record_pitch(conv) * conv.output[2]


def held_bytes(op: Op) -> int:
    """Bytes of the constants of any operator: weight records, tables, records of a normalisation."""
    return weight_bytes(op) if isinstance(op, Conv2d) else constant_bytes(op)


def input_rows(conv: Conv2d, rows: int) -> int:
    """Input rows under `rows` output rows."""
    return (rows - 1) * conv.window.stride_h + conv.window.kernel_h


def splits(total: int, multiple: int = 1) -> list[int]:
    """Tile sizes that cut `total` into 1, 2, 3, 4, 6, 8, 12, ... about equal parts, in multiples of `multiple`."""
    sizes: set[int] = set()
    parts = 1
    while True:
        size = min(total, multiple * ceil_div(ceil_div(total, parts), multiple))
        sizes.add(size)
        if size <= multiple or parts >= total:
            return sorted(sizes, reverse=True)
        parts = parts + 1 if parts < 4 else parts * 3 // 2 if parts & (parts - 1) == 0 else parts * 4 // 3


# --- shared fields -----------------------------------------------------------------------------


def map_view(prefix: str, tensor: TensorRef) -> dict[str, Value | int]:
    """Fields of a view of a map in SRAM, alone or part of a larger one."""
    row, _, column = tensor.steps
    view = resident_view(prefix, tensor.address, tensor.shape, dtype=tensor.dtype)
    return {**view, f"{prefix}_pitch_h": row, f"{prefix}_pitch_w": column}


def resident_view(
    prefix: str, address: int | Value, shape: Shape, *, wrap: int = 0, dtype: DType = DType.INT8
) -> dict[str, Value | int]:
    """Fields of a view of a whole map in SRAM, or of a rolling buffer of `wrap` of its rows."""
    _, width, channels = shape
    return tile_view(prefix, address, (width, channels), row0=0, wrap=wrap, dtype=dtype)


def tile_view(
    prefix: str, address: int | Value, row: tuple[int, int], *, row0: int | Value, chan0: int | Value = 0,
    wrap: int = 0, dtype: DType = DType.INT8,
) -> dict[str, Value | int]:  # fmt: skip
    """Fields of a view of a tile whose rows hold `row` = (columns, channels) and start at map row `row0`."""
    width, channels = row
    return {
        f"{prefix}_addr": address,
        f"{prefix}_pitch_h": width * channels * dtype.bytes,
        f"{prefix}_pitch_w": channels * dtype.bytes,
        f"{prefix}_row0": row0,
        f"{prefix}_wrap": wrap,
        f"{prefix}_chan0": chan0,
        f"{prefix}_type": dtype,
    }


def map_size(shape: Shape, zero_point: int) -> dict[str, Value | int]:
    return {"in_rows": shape[0], "in_cols": shape[1], "in_zp": zero_point}


def stage_fields(stage: StageParams) -> dict[str, Value | int]:
    return {"out_zp": stage.zero_point, "act_min": stage.clamp[0], "act_max": stage.clamp[1]}


def add_fields(stage: StageParams) -> dict[str, Value | int]:
    names = ("a", "b", "sum")
    return {
        f"{name}_{part}": value
        for name, pair in zip(names, stage.add, strict=True)
        for part, value in zip(("multiplier", "shift"), pair, strict=True)
    }


def range_fields(
    shape: Shape, row_start: int | Value, rows: int, chan_start: int | Value = 0, channels: int | None = None
) -> dict[str, Value | int]:
    """The part of an output map that one instruction covers, clipped to the map."""
    return {
        "row_start": row_start,
        "row_count": rows,
        "row_limit": shape[0],
        "col_count": shape[1],
        "chan_start": chan_start,
        "chan_count": shape[2] if channels is None else channels,
        "chan_limit": shape[2],
    }


def window_fields(op: Conv2d) -> dict[str, Value | int]:
    w = op.window
    return {
        "kernel_h": w.kernel_h,
        "kernel_w": w.kernel_w,
        "stride_h": w.stride_h,
        "stride_w": w.stride_w,
        "pad_h": w.pad_h,
        "pad_w": w.pad_w,
    }


def rows_transfer(
    tensor: TensorRef, row0: int | Value, rows: int, *, chan0: int | Value = 0, channels: int | None = None
) -> dict[str, Value | int]:
    """DMA fields between rows [row0, row0 + rows) × channels of a DRAM tensor and a packed SRAM tile."""
    height, width, total = tensor.shape
    count = total if channels is None else channels
    row, chan, col = tensor.steps
    if tensor.memory is Memory.HOST:  # columns are contiguous in DRAM
        order = ((count, chan, 1), (width, col, count))
        origins = {"origin1": chan0, "limit1": total}
    else:  # channels are contiguous in DRAM
        order = ((width, col, count), (count, chan, 1))
        origins = {"origin2": chan0, "limit2": total}
    (n1, d1, s1), (n2, d2, s2) = order
    size = tensor.dtype.bytes
    return {
        "dram_addr": tensor.address,
        "count0": rows, "count1": n1, "count2": n2, "count3": size,
        "dram_stride0": row, "dram_stride1": d1, "dram_stride2": d2, "dram_stride3": 1,
        "sram_stride0": width * count * size, "sram_stride1": s1 * size, "sram_stride2": s2 * size, "sram_stride3": 1,
        "origin0": row0, "limit0": height, **origins,
    }  # fmt: skip


def records_transfer(address: int, pitch: int, chan0: int | Value, channels: int, total: int) -> dict[str, Value | int]:
    """DMA fields that bring the weight records of channels [chan0, chan0 + channels) into SRAM."""
    return {
        "dram_addr": address,
        "count0": channels, "count1": 1, "count2": 1, "count3": pitch,
        "dram_stride0": pitch, "dram_stride1": 0, "dram_stride2": 0, "dram_stride3": 1,
        "sram_stride0": pitch, "sram_stride1": 0, "sram_stride2": 0, "sram_stride3": 1,
        "origin0": chan0, "limit0": total, "limit1": NO_LIMIT, "limit2": NO_LIMIT,
    }  # fmt: skip
