"""The program of cuboid attention, one queue at a time.

Units run at their own pace and meet at flows (counted slots). Per box of equal cuboids, with tiles 0 .. n − 1:

    DMA_IN    load 0, load 1, ...
    VECTOR    norm 0, (norm i + 1, softmax i)*, softmax n − 1
    ARRAY     project and score 0, (project and score i + 1, attend i)*, attend n − 1
    DMA_OUT   store 0, store 1, ...

so that the array has the products of tile i + 1 to do while the softmax of tile i runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

from ..targets.isa import NO_LIMIT, DType, Opcode, SoftmaxMode, Unit
from .builder import Builder, Fence, Value
from .cuboid_op import CuboidAttention, score_table
from .cuboid_tiles import Box, Piece
from .kernel import Buffer, Operands, TensorRef
from .rescale import rescale_operands

ONE = rescale_operands(1.0)
LOGIT_BYTES = 2
_LOGITS = (-(2**15), 2**15 - 1)
_DMA_DIMENSIONS = 4
Fields = dict[str, Value | int]
_Dimension = tuple[int, int, int]  # count, DRAM stride, SRAM stride


@dataclass(frozen=True, slots=True)
class Slots:
    """`depth` places for tiles from `address` on; tile number n lies in place n mod depth."""

    address: int
    size: int
    depth: int

    def of(self, first: int, number: Value) -> Value:
        """Address of tile `first` + `number`, which counts linearly in loops."""
        if self.depth == 1:
            return Value(self.address)
        parity = first % 2
        start = self.address + parity * self.size
        if not number.terms:
            return Value(self.address + (first + number.base) % 2 * self.size)
        counts = [sum(c[level] * increment for c, increment, _ in number.terms) for level in range(4)]
        a, b, c, d = counts
        return Value(start, (((a, b, c, d), -self.size if parity else self.size, 2),))


def emit_cuboids(
    builder: Builder,
    op: CuboidAttention,
    tiles: list[Box],
    buffers: tuple[Buffer, ...],
    operands: Operands,
) -> None:
    """Emits the whole operator; `tiles` are the boxes with their tiles, `buffers` those of the kernel."""
    if op.global_vectors:
        from .cuboid_global_emit import GlobalEmitter  # which extends this room's emitter

        GlobalEmitter(builder, op, buffers, operands).emit(tiles)
        return
    Emitter(builder, op, buffers, operands).emit(tiles)


class Emitter:
    def __init__(self, builder: Builder, op: CuboidAttention, buffers: tuple[Buffer, ...], operands: Operands) -> None:
        self.b, self.op, self.o = builder, op, operands
        self.volume, self.keys = op.cuboids.volume, op.keys
        self.slots = {b.name: Slots(operands.buffers[b.name], b.slot_bytes, b.depth) for b in buffers}
        self.buffers = {b.name: b for b in buffers}
        self.sections = {name: self.slots["constants"].address + offset for name, (offset, _) in op.sections().items()}
        self.done = 0  # tiles of the boxes before

    def emit(self, tiles: list[Box]) -> None:
        self._begin()
        self._load_constants()
        flow = self.b.flow
        self.flows = {
            "input": flow(Unit.DMA_IN, Unit.VECTOR, 2),
            "y": flow(Unit.VECTOR, Unit.ARRAY, 2),
            "s": flow(Unit.ARRAY, Unit.VECTOR, 1),
            "p": flow(Unit.VECTOR, Unit.ARRAY, 2),
            "output": flow(Unit.ARRAY, Unit.DMA_OUT, 2),
        }
        self._await_memory("input")
        self._open(tiles)
        for box in tiles:
            self._box(box)
            self.done += box.tile_count
        self._close()
        self.b.release(self.constants["vector"])
        self.b.release(self.constants["array"])

    # --- beginning -------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The array has waited for the steps before; the vector unit writes to the same memory."""
        begun = self.b.flow(Unit.ARRAY, Unit.VECTOR, 1)
        self.b.acquire(begun)
        self.b.publish(begun)
        self.b.receive(begun)
        self.b.release(begun)

    def _await_memory(self, name: str) -> None:
        buffer = self.buffers[name]
        fence = self.o.fences.get(name, Fence())
        self.b.ring(self.slots[name].address, buffer.slot_bytes, buffer.depth, Unit.DMA_IN, Unit.VECTOR, fence)

    def _load_constants(self) -> None:
        self._await_memory("constants")
        flows = {"vector": self.b.flow(Unit.DMA_IN, Unit.VECTOR, 1), "array": self.b.flow(Unit.DMA_IN, Unit.ARRAY, 1)}
        for ring in flows.values():
            self.b.acquire(ring)
        self._transfer(
            Opcode.LOAD, self.o.records[0], [(self.op.resident_bytes, 1, 1)], self.slots["constants"].address
        )
        for ring in flows.values():
            self.b.publish(ring)
            self.b.receive(ring)
        self.constants = flows

    def _open(self, tiles: list[Box]) -> None:
        """What precedes the first tile."""

    def _close(self) -> None:
        """What follows the last tile."""

    # --- one box -----------------------------------------------------------------------------------

    def _box(self, box: Box) -> None:
        self._moves(box, "input", Opcode.LOAD, self.o.input)
        self._compute(box)
        self._moves(box, "output", Opcode.STORE, self.o.output)

    def _compute(self, box: Box) -> None:
        self._staggered(box.tile_count, lambda n: self._norm(box, n), lambda n: self._softmax(box, n))
        self._staggered(box.tile_count, lambda n: self._score(box, n), lambda n: self._attend(box, n))

    def _staggered(
        self, count: int, early: Callable[[Tile], None], late: Callable[[Tile], None], start: Value | None = None
    ) -> None:
        """early(0), then early(i + 1) and late(i) in turn, then late(count − 1), for tiles from `start` on."""
        begin, last = start or Value(), count - 1
        early(Tile(self.done, begin))
        if last:
            with self.b.loop(last) as i:
                early(Tile(self.done + 1, begin + i))
                late(Tile(self.done, begin + i, i))
        late(Tile(self.done + last, begin, Value(last)))

    def _norm(self, box: Box, tile: Tile) -> None:
        x, y = self.flows["input"], self.flows["y"]
        source, target = self._slot("input", tile), self._slot("y", tile)
        self.b.receive(x)
        self.b.acquire(y)
        stage = self.o.stages[0]
        count, width = box.cuboids_per_tile, self.op.channels
        self.b.emit(
            Unit.VECTOR, Opcode.NORM, **self._view("in", source, count, self.volume, width),
            **self._size(count, self.volume, self.o.input.zero_point), mode=0, group=width,
            params_addr=self.sections["norm"], params_chan0=0,
            eps_high=self.o.epsilon >> 31, eps_low=self.o.epsilon & (2**31 - 1),
            **self._range(count, self.volume, width), **self._view("out", target, count, self.volume, width),
            out_zp=stage.zero_point, act_min=-128, act_max=127,
        )  # fmt: skip
        self._fill(box, target, stage.zero_point)
        self.b.publish(y)
        self.b.release(x)

    def _fill(self, box: Box, target: Value, zero_point: int) -> None:
        """The zero point wherever a tile holds padding: what is padded begins after the normalisation."""
        inner = self.op.cuboids.cuboid
        rows, cols = box.cuboids_per_tile, self.volume
        for axis, run in enumerate(box.runs):
            cols //= inner[axis]
            for first, count in run.padding:
                start = target + first * cols * self.op.channels
                pitch = inner[axis] * cols
                self._constant(start, (rows, pitch), count * cols, zero_point)
            rows *= inner[axis]

    def _constant(self, address: Value, rows: tuple[int, int], cols: int, value: int) -> None:
        """`cols` tokens of each of `rows` = (count, pitch in tokens) rows become `value`."""
        count, pitch = rows
        width = self.op.channels
        multiplier, shift = ONE
        self.b.emit(
            Unit.VECTOR, Opcode.REQUANTISE, **self._view("in", address, count, pitch, width),
            **self._size(count, cols, 0), multiplier=multiplier, shift=shift, **self._range(count, cols, width),
            **self._view("out", address, count, pitch, width), out_zp=0, act_min=value, act_max=value,
        )  # fmt: skip

    def _score(self, box: Box, tile: Tile) -> None:
        """[q | k | v] and the logits of a tile."""
        y, s = self.flows["y"], self.flows["s"]
        qkv = self._slot("qkv", tile)
        self.b.receive(y)
        self._project(box, self._slot("y", tile), self.o.stages[0].zero_point, "token", qkv, self.op.token_channels, 1)
        self.b.release(y)
        self.b.acquire(s)
        self._logits(box, qkv, self._slot("s", tile))
        self.b.publish(s)

    def _logits(self, box: Box, qkv: Value, target: Value) -> None:
        op, volume, wide = self.op, self.volume, self.op.token_channels
        multiplier, shift = self.o.stages[2].rescale
        keys, row = self.keys, self.keys * LOGIT_BYTES
        table = self.sections["scores"] + 4 * self._mask(box) * op.heads * volume * keys
        self.b.emit(
            Unit.ARRAY, Opcode.MATMUL,
            in_addr=qkv, in_pitch_g0=keys * wide, in_pitch_g1=op.head_channels, in_pitch_m=wide, in_zp=0,
            b_addr=qkv + op.channels, b_pitch_g0=keys * wide, b_pitch_g1=op.head_channels, b_pitch_n=wide,
            b_pitch_k=1, b_zp=0,
            bias_addr=table if op.score_tables else -1, bias_pitch_g0=0,
            bias_pitch_g1=4 * volume * keys, bias_pitch_m=4 * keys,
            multiplier=multiplier, shift=shift,
            g0_start=0, g0_count=box.cuboids_per_tile, g0_limit=box.cuboids_per_tile, g1_count=op.heads,
            m_count=volume, n_count=keys, k_count=op.head_channels,
            out_addr=target, out_pitch_g0=op.heads * volume * row, out_pitch_g1=volume * row, out_pitch_m=row,
            out_zp=0, out_type=DType.INT16, act_min=_LOGITS[0], act_max=_LOGITS[1],
        )  # fmt: skip

    def _mask(self, box: Box) -> int:
        return score_table(self.op, next(box.cuboid_ids(self.op.cuboids.blocks))[0])

    def _softmax(self, box: Box, tile: Tile) -> None:
        s, p = self.flows["s"], self.flows["p"]
        rows = box.cuboids_per_tile * self.op.heads
        multiplier, shift = ONE
        self.b.receive(s)
        self.b.acquire(p)
        self.b.emit(
            Unit.VECTOR, Opcode.SOFTMAX, **self._view("in", self._slot("s", tile), rows, self.volume, self.keys, 2),
            **self._size(rows, self.volume, 0), in_type=DType.INT16, mode=int(SoftmaxMode.MASKED),
            table_addr=self.sections["exponential"], multiplier=multiplier, shift=shift,
            **self._range(rows, self.volume, self.keys),
            **self._view("out", self._slot("p", tile), rows, self.volume, self.keys, 2), out_type=DType.INT16,
            out_zp=0, act_min=0, act_max=_LOGITS[1],
        )  # fmt: skip
        self._shared(box, tile)
        self.b.publish(p)
        self.b.release(s)

    def _shared(self, box: Box, tile: Tile) -> None:
        """What else the vector unit does with the logits of a tile."""

    def _attend(self, box: Box, tile: Tile) -> None:
        """Shares × values, and the projection."""
        p, out = self.flows["p"], self.flows["output"]
        result = self._slot("output", tile)
        self.b.receive(p)
        if not self.op.projected:
            self.b.acquire(out)
        self._values(box, tile, self._slot("o", tile) if self.op.projected else result)
        self.b.release(p)
        if self.op.projected:
            self.b.acquire(out)
            self._project(box, self._slot("o", tile), self.o.stages[3].zero_point, "out", result, self.op.channels, 4)
        self.b.publish(out)

    def _values(self, box: Box, tile: Tile, target: Value) -> None:
        op, volume, wide = self.op, self.volume, self.op.token_channels
        stage = self.o.stages[3]
        row = self.keys * LOGIT_BYTES
        self.b.emit(
            Unit.ARRAY, Opcode.MATMUL,
            in_addr=self._slot("p", tile), in_pitch_g0=op.heads * volume * row, in_pitch_g1=volume * row,
            in_pitch_m=row, in_zp=0, in_type=DType.INT16,
            b_addr=self._slot("qkv", tile) + 2 * op.channels, b_pitch_g0=self.keys * wide, b_pitch_g1=op.head_channels,
            b_pitch_n=1, b_pitch_k=wide, b_zp=0,
            bias_addr=-1, bias_pitch_g0=0, bias_pitch_g1=0, bias_pitch_m=0,
            multiplier=stage.rescale[0], shift=stage.rescale[1],
            g0_start=0, g0_count=box.cuboids_per_tile, g0_limit=box.cuboids_per_tile, g1_count=op.heads,
            m_count=volume, n_count=op.head_channels, k_count=self.keys,
            out_addr=target, out_pitch_g0=volume * op.channels, out_pitch_g1=op.head_channels,
            out_pitch_m=op.channels, out_zp=stage.zero_point, act_min=stage.clamp[0], act_max=stage.clamp[1],
        )  # fmt: skip

    def _project(
        self, box: Box, source: Value, zero_point: int, section: str, target: Value, outputs: int, stage: int
    ) -> None:
        """A 1×1 convolution over the tokens of a tile."""
        count, width, params = box.cuboids_per_tile, self.op.channels, self.o.stages[stage]
        self.b.emit(
            Unit.ARRAY, Opcode.CONV, **self._view("in", source, count, self.volume, width),
            **self._size(count, self.volume, zero_point), kernel_h=1, kernel_w=1, stride_h=1, stride_w=1, pad_h=0,
            pad_w=0, mode=0, channels_in=width, weights_addr=self.sections[section], weights_chan0=0,
            record_pitch=self.op.record_pitch, **self._range(count, self.volume, outputs),
            **self._view("out", target, count, self.keys if section == "token" else self.volume, outputs),
            out_zp=params.zero_point, act_min=params.clamp[0], act_max=params.clamp[1],
        )  # fmt: skip

    # --- DMA ---------------------------------------------------------------------------------------

    def _moves(self, box: Box, name: str, opcode: Opcode, tensor: TensorRef) -> None:
        """Gathers or scatters every tile of a box: one descriptor per piece of the three axes."""
        flow = self.flows[name]
        strides = _axis_strides(self.op, tensor)
        t, h, w = box.tiles
        with self.b.loop(t) as i, self.b.loop(h) as j, self.b.loop(w) as k:
            tile = self._slot(name, Tile(self.done, i * (h * w) + j * w + k))
            start = Value(tensor.address)
            for number, stride, run, size in zip((i, j, k), strides, box.runs, box.tile, strict=True):
                start = start + number * (size * run.step * stride)
            (self.b.acquire if opcode is Opcode.LOAD else self.b.receive)(flow)
            for pieces in product(*(run.pieces for run in box.runs)):
                self._piece(opcode, box, pieces, start, tile, tensor)
            (self.b.publish if opcode is Opcode.LOAD else self.b.release)(flow)
        if opcode is Opcode.STORE:
            self.b.stores()

    def _piece(
        self, opcode: Opcode, box: Box, pieces: tuple[Piece, ...], start: Value, tile: Value, tensor: TensorRef
    ) -> None:
        strides = _axis_strides(self.op, tensor)
        inner = self.op.cuboids.cuboid
        tokens = [inner[1] * inner[2], inner[2], 1]
        blocks = [box.tile[1] * box.tile[2], box.tile[2], 1]
        width = self.op.channels
        dram, sram = start, tile
        dimensions: list[_Dimension] = []
        for axis, run in enumerate(box.runs):
            dimensions.append((box.tile[axis], run.step * strides[axis], blocks[axis] * self.volume * width))
        for axis, piece in enumerate(pieces):
            dimensions.append((piece.count, piece.stride * strides[axis], tokens[axis] * width))
            dram = dram + piece.source * strides[axis]
            sram = sram + piece.inner * tokens[axis] * width
        channel_stride = tensor.steps[1]
        self._transfer(opcode, dram, [*dimensions, (width, channel_stride, 1)], sram)

    def _transfer(self, opcode: Opcode, dram: Value | int, dimensions: list[_Dimension], sram: Value | int) -> None:
        """A move of any number of dimensions: what exceeds a descriptor's four is unrolled."""
        merged = _merged(dimensions)
        outer, inner = merged[:-_DMA_DIMENSIONS], merged[-_DMA_DIMENSIONS:]
        inner = [(1, 0, 0)] * (_DMA_DIMENSIONS - len(inner)) + inner
        fields: Fields = {}
        for d, (count, dram_stride, sram_stride) in enumerate(inner):
            fields |= {f"count{d}": count, f"dram_stride{d}": dram_stride, f"sram_stride{d}": sram_stride}
            if d < _DMA_DIMENSIONS - 1:
                fields |= {f"origin{d}": 0, f"limit{d}": NO_LIMIT}
        unit = Unit.DMA_IN if opcode is Opcode.LOAD else Unit.DMA_OUT
        for index in product(*(range(count) for count, _, _ in outer)):
            far = sum(i * stride for i, (_, stride, _) in zip(index, outer, strict=True))
            near = sum(i * stride for i, (_, _, stride) in zip(index, outer, strict=True))
            self.b.emit(unit, opcode, **fields, dram_addr=_plus(dram, far), sram_addr=_plus(sram, near))

    # --- fields --------------------------------------------------------------------------------------

    def _slot(self, name: str, tile: Tile) -> Value:
        return self.slots[name].of(tile.first, tile.number)

    @staticmethod
    def _view(prefix: str, address: Value, rows: int, cols: int, channels: int, size: int = 1) -> Fields:
        """A packed map of `rows` × `cols` × `channels` elements of `size` bytes."""
        return {
            f"{prefix}_addr": address, f"{prefix}_pitch_h": cols * channels * size,
            f"{prefix}_pitch_w": channels * size, f"{prefix}_row0": 0, f"{prefix}_wrap": 0, f"{prefix}_chan0": 0,
        }  # fmt: skip

    @staticmethod
    def _size(rows: int, cols: int, zero_point: int) -> Fields:
        return {"in_rows": rows, "in_cols": cols, "in_zp": zero_point}

    @staticmethod
    def _range(rows: int, cols: int, channels: int) -> Fields:
        return {
            "row_start": 0, "row_count": rows, "row_limit": rows, "col_count": cols,
            "chan_start": 0, "chan_count": channels, "chan_limit": channels,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tile:
    """Tile number `first` + `number` of the operator; `number` counts in loops, `place` within a staggered run."""

    first: int
    number: Value
    place: Value = field(default_factory=Value)


def _axis_strides(op: CuboidAttention, tensor: TensorRef) -> tuple[int, int, int]:
    """Bytes in DRAM from token to token along T, H and W."""
    row, _, col = tensor.steps
    return op.size[1] * row, row, col


def _merged(dimensions: list[_Dimension]) -> list[_Dimension]:
    """The same moves with as few dimensions as possible, outermost first."""
    found: list[_Dimension] = []
    for count, dram, sram in dimensions:
        if count == 1:
            continue
        if found and found[-1][1:] == (count * dram, count * sram):
            found[-1] = (found[-1][0] * count, dram, sram)
        else:
            found.append((count, dram, sram))
    return found or [(1, 1, 1)]


def _plus(address: Value | int, offset: int) -> Value | int:
    return address + offset
