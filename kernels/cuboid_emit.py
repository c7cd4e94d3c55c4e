"""The program of cuboid attention, one queue at a time.

Units run at their own pace and meet at flows (counted slots). Per box of equal cuboids, with tiles 0 .. n − 1:

    DMA_IN    constants of the normalisation, load 0, other constants, load 1, ...
    VECTOR    norm 0, (norm i + 1, softmax i)*, softmax n − 1
    ARRAY     project and score 0, (project and score i + 1, attend i)*, attend n − 1
    DMA_OUT   store 0, store 1, ...

so that the array has the products of tile i + 1 to do while the softmax of tile i runs. Constants arrive in the
order in which the first tile needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..targets.elements import MINUS_INFINITY, PLUS_INFINITY, float_bits
from ..targets.isa import FIELDS, DType, Opcode, SoftmaxMode, Unit
from .builder import Builder, Fence, Value
from .cuboid_moves import Fields, Mover, Part, Slots, Tile, first_parts
from .cuboid_op import CuboidAttention, score_table
from .cuboid_tiles import Box
from .kernel import Buffer, Operands
from .rescale import rescale_operands

ONE = rescale_operands(1.0)
LOGIT_BYTES = 2
_LOGITS = (-(2**15), 2**15 - 1)
_Phase: TypeAlias = "Callable[[Tile], None]"


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


class Emitter(Mover):
    def __init__(self, builder: Builder, op: CuboidAttention, buffers: tuple[Buffer, ...], operands: Operands) -> None:
        super().__init__(builder, op, {b.name: Slots(operands.buffers[b.name], b.slot_bytes, b.depth) for b in buffers})
        self.o, self.keys, self.size = operands, op.keys, op.element_bytes
        self.buffers = {b.name: b for b in buffers}
        self.sections = {name: self.slots["constants"].address + offset for name, (offset, _) in op.sections().items()}

    def emit(self, tiles: list[Box]) -> None:
        self._begin()
        self._await_memory("constants")
        flow = self.b.flow
        self.flows = {
            "input": flow(Unit.DMA_IN, Unit.VECTOR, 2),
            "y": flow(Unit.VECTOR, Unit.ARRAY, 2),
            "s": flow(Unit.ARRAY, Unit.VECTOR, self.buffers["s"].depth),
            "p": flow(Unit.VECTOR, Unit.ARRAY, 2),
            "output": flow(Unit.ARRAY, Unit.DMA_OUT, 2),
        }
        self._await_memory("input")
        parts = self.op.token_channels // self.op.channels
        self.constants = {
            unit: (flow(Unit.DMA_IN, unit, count), count) for unit, count in ((Unit.VECTOR, 2), (Unit.ARRAY, parts + 2))
        }
        self._load_constants("norm", "norm", Unit.VECTOR)
        for box in tiles:
            self._box(box, tiles)
            self.done += box.tile_count
        self._close()
        for ring, count in self.constants.values():
            for _ in range(count):
                self.b.release(ring)

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

    def _load_constants(self, first: str, last: str, reader: Unit) -> None:
        """Loads some sections; the unit that reads them waits for them here."""
        self._load_part(*self.op.load(first, last), reader)

    def _load_part(self, start: int, size: int, reader: Unit) -> None:
        ring, _ = self.constants[reader]
        self.b.acquire(ring)
        if size:
            source, target = self.o.records[0] + start, self.slots["constants"].address + start
            self._transfer(Opcode.LOAD, source, [(size, 1, 1)], target)
        self.b.publish(ring)
        self.b.receive(ring)

    def _open(self, tiles: list[Box]) -> None:
        """What precedes the logits of the first tile."""

    def _close(self) -> None:
        """What follows the last tile."""

    # --- one box -----------------------------------------------------------------------------------

    def _box(self, box: Box, tiles: list[Box]) -> None:
        whole = Part((0, 0, 0), box.tiles, 0)
        if self.done:
            self._moves(box, whole, "input", Opcode.LOAD, self.o.input)
        else:
            self._begin_computing(box, tiles)
        self._compute(box)
        self._moves(box, whole, "output", Opcode.STORE, self.o.output)

    def _begin_computing(self, box: Box, tiles: list[Box]) -> None:
        """Loads of the first box between those of the constants, in the order in which the first tiles need them."""
        first, second, *others = first_parts(box.tiles)
        self._moves(box, first, "input", Opcode.LOAD, self.o.input)
        tile = Tile(0, Value())
        self._norm(box, tile)
        self._begin_projecting(box, tile)
        self._moves(box, second, "input", Opcode.LOAD, self.o.input)
        self._load_constants("scores", "global_hidden", Unit.ARRAY)
        self._load_constants("exponential", "global_exponential", Unit.VECTOR)
        self._open(tiles)
        self._scored(box, tile)
        self._load_constants("out", "out", Unit.ARRAY)
        for part in others:
            self._moves(box, part, "input", Opcode.LOAD, self.o.input)

    def _begin_projecting(self, box: Box, tile: Tile) -> None:
        """The first projection of the first tile while its weights arrive."""
        self.b.receive(self.flows["y"])
        (start, size), width = self.op.load("token", "token"), self.op.channels
        parts = self.op.token_channels // width  # queries, keys, values ...
        for part in range(parts):
            self._load_part(start + part * size // parts, size // parts, Unit.ARRAY)
            self._project_token(box, tile, (part * width, width))
        self.b.release(self.flows["y"])

    def _compute(self, box: Box) -> None:
        """Everything between the loads and the stores of a box; of the very first tile, only what is left."""
        self._first(box)
        last = box.tile_count - 1
        for early, late in self._phases(box):
            if last:
                with self.b.loop(last) as i:
                    early(Tile(self.done + 1, i))
                    late(Tile(self.done, i, i))
            late(Tile(self.done + last, Value(), Value(last)))

    def _first(self, box: Box) -> None:
        if self.done:
            self._norm(box, Tile(self.done, Value()))
            self._score(box, Tile(self.done, Value()))

    def _phases(self, box: Box) -> tuple[tuple[_Phase, _Phase], ...]:
        """What the vector unit and the array do early and late for a tile."""
        return (
            (lambda n: self._norm(box, n), lambda n: self._softmax(box, n)),
            (lambda n: self._score(box, n), lambda n: self._attend(box, n)),
        )

    def _norm(self, box: Box, tile: Tile) -> None:
        x, y = self.flows["input"], self.flows["y"]
        source, target = self._slot("input", tile), self._slot("y", tile)
        self.b.receive(x)
        self.b.acquire(y)
        stage = self.o.stages[0]
        count, width = box.cuboids_per_tile, self.op.channels
        self._emit(
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
                start = target + first * cols * self.op.channels * self.size
                pitch = inner[axis] * cols
                self._constant(start, (rows, pitch), count * cols, zero_point)
            rows *= inner[axis]

    def _constant(self, address: Value, rows: tuple[int, int], cols: int, value: int) -> None:
        """`cols` tokens of each of `rows` = (count, pitch in tokens) rows become `value`."""
        (count, pitch), width = rows, self.op.channels
        views = self._view("in", address, count, pitch, width) | self._view("out", address, count, pitch, width)
        covered = self._size(count, cols, 0) | self._range(count, cols, width)
        if self.op.dtype == "bf16":  # what lies there may be NaN as a float, which no clamp replaces
            kinds = {
                "in_type": int(DType.INT16),
                "out_type": int(DType.BF16),
                "multiplier": float_bits(1.0),
                "shift": 2,
            }
            self.b.emit(Unit.VECTOR, Opcode.REQUANTISE, **views, **covered, **kinds, out_zp=0, act_min=0, act_max=0)
            return
        scale = dict(zip(("multiplier", "shift"), ONE, strict=True))
        self.b.emit(
            Unit.VECTOR, Opcode.REQUANTISE, **views, **covered, **scale, out_zp=0, act_min=value, act_max=value
        )  # fmt: skip

    def _score(self, box: Box, tile: Tile) -> None:
        """[q | k | v] and the logits of a tile."""
        self.b.receive(self.flows["y"])
        self._project_token(box, tile, (0, self.op.token_channels))
        self.b.release(self.flows["y"])
        self._scored(box, tile)

    def _project_token(self, box: Box, tile: Tile, outputs: tuple[int, int]) -> None:
        """`outputs` = (first, count) of [q | k | v]."""
        target, zero_point = self._slot("qkv", tile), self.o.stages[0].zero_point
        self._project(box, self._slot("y", tile), zero_point, "token", target, self.op.token_channels, 1, outputs)

    def _scored(self, box: Box, tile: Tile) -> None:
        self.b.acquire(self.flows["s"])
        self._logits(box, tile)
        self.b.publish(self.flows["s"])

    def _logits(self, box: Box, tile: Tile) -> None:
        op, volume = self.op, self.volume
        wide, head = op.token_channels * self.size, op.head_channels * self.size
        qkv, target = self._slot("qkv", tile), self._slot("s", tile)
        multiplier, shift = self.o.stages[2].rescale
        keys, row = self.keys, self.keys * LOGIT_BYTES
        table = self.sections["scores"] + 4 * self._mask(box) * op.heads * volume * keys
        self._emit(
            Unit.ARRAY, Opcode.MATMUL,
            in_addr=qkv, in_pitch_g0=keys * wide, in_pitch_g1=head, in_pitch_m=wide, in_zp=0,
            b_addr=qkv + op.channels * self.size, b_pitch_g0=keys * wide, b_pitch_g1=head, b_pitch_n=wide,
            b_pitch_k=self.size, b_zp=0,
            bias_addr=table if op.score_tables else -1, bias_pitch_g0=0,
            bias_pitch_g1=4 * volume * keys, bias_pitch_m=4 * keys,
            multiplier=multiplier, shift=shift,
            g0_start=0, g0_count=box.cuboids_per_tile, g0_limit=box.cuboids_per_tile, g1_count=op.heads,
            m_count=volume, n_count=volume if op.separate else keys, k_count=op.head_channels,
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
        self._emit(
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
        op, volume, stage = self.op, self.volume, self.o.stages[3]
        wide, head = op.token_channels * self.size, op.head_channels * self.size
        row = self.keys * LOGIT_BYTES
        self._emit(
            Unit.ARRAY, Opcode.MATMUL,
            in_addr=self._slot("p", tile), in_pitch_g0=op.heads * volume * row, in_pitch_g1=volume * row,
            in_pitch_m=row, in_zp=0, in_type=DType.INT16,
            b_addr=self._slot("qkv", tile) + 2 * op.channels * self.size, b_pitch_g0=self.keys * wide, b_pitch_g1=head,
            b_pitch_n=self.size, b_pitch_k=wide, b_zp=0,
            bias_addr=-1, bias_pitch_g0=0, bias_pitch_g1=0, bias_pitch_m=0,
            multiplier=stage.rescale[0], shift=stage.rescale[1],
            g0_start=0, g0_count=box.cuboids_per_tile, g0_limit=box.cuboids_per_tile, g1_count=op.heads,
            m_count=volume, n_count=op.head_channels, k_count=self.keys,
            out_addr=target, out_pitch_g0=volume * op.channels * self.size, out_pitch_g1=head,
            out_pitch_m=op.channels * self.size,
            out_zp=stage.zero_point, act_min=stage.clamp[0], act_max=stage.clamp[1],
        )  # fmt: skip

    def _project(
        self,
        box: Box,
        source: Value,
        zero_point: int,
        section: str,
        target: Value,
        width_out: int,
        stage: int,
        outputs: tuple[int, int] | None = None,
    ) -> None:
        """A 1×1 convolution over the tokens of a tile, with `width_out` outputs or, of these, (first, count)."""
        first, number = outputs or (0, width_out)
        covered = {"chan_start": first, "chan_count": number, "chan_limit": first + number}
        count, width, params = box.cuboids_per_tile, self.op.channels, self.o.stages[stage]
        self._emit(
            Unit.ARRAY, Opcode.CONV, **self._view("in", source, count, self.volume, width),
            **self._size(count, self.volume, zero_point), kernel_h=1, kernel_w=1, stride_h=1, stride_w=1, pad_h=0,
            pad_w=0, mode=0, channels_in=width, weights_addr=self.sections[section], weights_chan0=0,
            record_pitch=self.op.record_pitch, **(self._range(count, self.volume, width_out) | covered),
            **self._view("out", target, count, self.keys if section == "token" else self.volume, width_out),
            out_zp=params.zero_point, act_min=params.clamp[0], act_max=params.clamp[1],
        )  # fmt: skip

    # --- fields --------------------------------------------------------------------------------------

    def _emit(self, unit: Unit, opcode: Opcode, **fields: Value | int) -> None:
        """An instruction on int8 elements where `fields` say nothing else, or on bf16 everywhere without clamp."""
        if self.op.dtype == "bf16":
            fields |= dict.fromkeys((name for name in FIELDS[opcode] if name.endswith("_type")), int(DType.BF16))
            fields |= {"act_min": MINUS_INFINITY, "act_max": PLUS_INFINITY}
        self.b.emit(unit, opcode, **fields)

    def _view(
        self, prefix: str, address: Value, rows: int, cols: int, channels: int, size: int | None = None
    ) -> Fields:
        """A packed map of `rows` × `cols` × `channels` elements of `size` bytes."""
        size = size or self.size
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
