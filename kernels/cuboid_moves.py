"""How tiles of cuboids move: places in SRAM, and the descriptors that gather them from DRAM and scatter them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from math import prod

from ..targets.isa import NO_LIMIT, Opcode, Unit
from .builder import Builder, Ring, Value
from .cuboid_geometry import Triple
from .cuboid_op import CuboidAttention
from .cuboid_tiles import Box, Piece
from .kernel import TensorRef

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


@dataclass(frozen=True, slots=True)
class Tile:
    """Tile number `first` + `number` of the operator; `number` counts in loops, `place` within a staggered run."""

    first: int
    number: Value
    place: Value = field(default_factory=Value)


@dataclass(frozen=True, slots=True)
class Part:
    """`counts` tiles of a box from `first` on along each axis; `offset` tiles of the box come before them."""

    first: Triple
    counts: Triple
    offset: int

    @property
    def tiles(self) -> int:
        return prod(self.counts)

    def peeled(self, extent: Triple) -> list[Part]:
        """The first tile alone, then the rest of its row, of its plane and of the part of a box of `extent` tiles."""
        (t, h, w), (x, y, z) = self.first, self.counts
        _, high, wide = extent
        found = [
            Part(self.first, (1, 1, 1), self.offset),
            Part((t, h, w + 1), (1, 1, z - 1), self.offset + 1),
            Part((t, h + 1, w), (1, y - 1, z), self.offset + wide),
            Part((t + 1, h, w), (x - 1, y, z), self.offset + high * wide),
        ]
        return found[:1] + [part for part in found[1:] if part.tiles]


def first_parts(tiles: Triple) -> list[Part]:
    """The first two tiles of a box alone, the second of which may be missing, and all others."""
    first, *rest = Part((0, 0, 0), tiles, 0).peeled(tiles)
    if not rest:
        return [first, Part((0, 0, 0), (0, 0, 0), 1)]
    return [first, *rest[0].peeled(tiles), *rest[1:]]


class Mover:
    """Emits the transfers of tiles; `flows` say when a place is free or full."""

    def __init__(self, builder: Builder, op: CuboidAttention, slots: dict[str, Slots]) -> None:
        self.b, self.op, self.slots = builder, op, slots
        self.volume = op.cuboids.volume
        self.flows: dict[str, Ring] = {}
        self.done = 0  # tiles of the boxes before

    def _slot(self, name: str, tile: Tile) -> Value:
        return self.slots[name].of(tile.first, tile.number)

    def _moves(self, box: Box, part: Part, name: str, opcode: Opcode, tensor: TensorRef) -> None:
        """Gathers or scatters some tiles of a box: one descriptor per piece of the three axes."""
        if not part.tiles:
            return
        flow = self.flows[name]
        strides = _axis_strides(self.op, tensor)
        (t, h, w), (_, high, wide) = part.counts, box.tiles
        with self.b.loop(t) as i, self.b.loop(h) as j, self.b.loop(w) as k:
            tile = self._slot(name, Tile(self.done + part.offset, i * (high * wide) + j * wide + k))
            start = Value(tensor.address)
            for axis, number in enumerate((i, j, k)):
                start = start + (number + part.first[axis]) * (box.tile[axis] * box.runs[axis].step * strides[axis])
            (self.b.acquire if opcode is Opcode.LOAD else self.b.receive)(flow)
            for pieces in product(*(run.pieces if opcode is Opcode.LOAD else run.returns for run in box.runs)):
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
        width, size = self.op.channels, self.op.element_bytes
        dram, sram = start, tile
        dimensions: list[_Dimension] = []
        for axis, run in enumerate(box.runs):
            dimensions.append((box.tile[axis], run.step * strides[axis], blocks[axis] * self.volume * width * size))
        for axis, piece in enumerate(pieces):
            dimensions.append((piece.count, piece.stride * strides[axis], tokens[axis] * width * size))
            dram = dram + piece.source * strides[axis]
            sram = sram + piece.inner * tokens[axis] * width * size
        channel_stride = tensor.steps[1]
        self._transfer(opcode, dram, [*dimensions, (width, channel_stride, size), (size, 1, 1)], sram)

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
