"""The cuboid-attention kernel: tiles of whole cuboids, everything between LOAD and STORE in SRAM.

A tile is gathered by descriptors, normalised, projected to queries, keys and values, multiplied to scores, put
through the softmax, multiplied with the values, projected, and scattered back (`cuboid_emit.py`). The tensor is
never permuted in DRAM. Space: cuboids per tile. All constants stay in SRAM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..common.errors import UnsupportedError
from ..targets.cost import Elements, Work, conv_work, dma_work, matmul_work, passes, vector_work
from ..targets.isa import DType, Opcode, Unit
from ..targets.spec import EngineSpec
from .builder import Builder
from .cuboid_emit import LOGIT_BYTES, emit_cuboids
from .cuboid_global_emit import part_sizes
from .cuboid_op import CuboidAttention
from .cuboid_tiles import Box, boxes
from .kernel import Buffer, Estimate, Operands, Role, Tiling, pipelined, splits
from .subgraph import Memory, Subgraph

_SYNC_CYCLES = 2  # WAIT and SIGNAL
_BF16 = Elements(DType.BF16, DType.BF16, DType.BF16)


def _dense(op: CuboidAttention) -> Elements:
    """Element types of normalisation and projections."""
    return _BF16 if op.dtype == "bf16" else Elements()


def _logits(op: CuboidAttention) -> Elements:
    return _BF16 if op.dtype == "bf16" else Elements(out=DType.INT16)


def _shares(op: CuboidAttention) -> Elements:
    return _BF16 if op.dtype == "bf16" else Elements(DType.INT16, DType.INT8, DType.INT8)


def _softmax(op: CuboidAttention) -> Elements:
    return _BF16 if op.dtype == "bf16" else Elements(DType.INT16, DType.INT8, DType.INT16)


@dataclass(frozen=True, slots=True)
class TileWork:
    """Cycles of the units on one tile of a box, issue included: of the array up to the logits and behind the softmax,
    of the vector unit for both; DMA by direction."""

    score: float
    attend: float
    norm: float
    softmax: float
    load: float
    store: float

    @property
    def steady(self) -> float:
        """Cycles from tile to tile."""
        return max(self.score + self.attend, self.norm + self.softmax)

    @property
    def ends(self) -> float:
        """What the unit with more work waits for at both ends of a box."""
        if self.score + self.attend < self.norm + self.softmax:
            return self.score + self.attend
        return self.norm + max(0.0, self.softmax - self.attend)


class CuboidKernel:
    """Space: cuboids per tile, as many as divide each box of equal cuboids. Both maps stream through SRAM."""

    unit = Unit.ARRAY
    units = frozenset({Unit.ARRAY, Unit.VECTOR})

    def space(self, subgraph: Subgraph, spec: EngineSpec) -> Sequence[Tiling]:
        op = cuboid_op(subgraph)
        if Memory.SRAM in (subgraph.input, subgraph.output):
            raise UnsupportedError(
                "cuboid attention gathers from DRAM and scatters to DRAM", hint="keep its maps there"
            )
        if op.global_vectors:  # leaves are part of what is computed
            return [Tiling(max(box.cuboids_per_tile for box in op.leaf_boxes), op.output[2])]
        found: dict[int, Tiling] = {}
        for size in splits(min(op.cuboids.count, op.output[0])):
            largest = max(box.cuboids_per_tile for box in boxes(op.cuboids, size))
            found.setdefault(largest, Tiling(largest, op.output[2]))
        return list(found.values())

    def buffers(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> tuple[Buffer, ...]:
        op = cuboid_op(subgraph)
        tiles = tiles_of(op, tiling)
        cuboids = max(box.cuboids_per_tile for box in tiles)
        depth = min(2, sum(box.tile_count for box in tiles))
        tokens = cuboids * op.cuboids.volume
        logits, size = tokens * op.heads * op.keys * LOGIT_BYTES, op.element_bytes
        found = [
            Buffer("constants", Role.WEIGHTS, op.resident_bytes),
            Buffer("input", Role.INCOMING, tokens * op.channels * size, depth),
            Buffer("y", Role.ROLLING, tokens * op.channels * size, depth),
            Buffer("qkv", Role.ROLLING, cuboids * op.keys * op.token_channels * size, depth),
            Buffer("s", Role.ROLLING, logits, depth),
            Buffer("p", Role.ROLLING, logits, depth),
            Buffer("output", Role.OUTGOING, tokens * op.channels * size, depth),
        ]
        if op.projected:
            found.append(Buffer("o", Role.ROLLING, tokens * op.channels * size))
        if op.global_vectors:
            leaf = op.heads * op.global_vectors * cuboids * op.keys * LOGIT_BYTES
            parts = sum(-(-size // 64) * 64 for size in part_sizes(op).values())
            found += [
                Buffer("sg", Role.ROLLING, leaf, depth), Buffer("pg", Role.ROLLING, leaf, depth),
                Buffer("global", Role.ROLLING, parts), Buffer("chunk", Role.INCOMING, op.chunk_bytes),
                Buffer("second", Role.INCOMING, op.global_vectors * op.channels),
            ]  # fmt: skip
        return tuple(found)

    def estimate(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> Estimate:
        op = cuboid_op(subgraph)
        compute = moved = 0.0
        tiles = [(box, tile_work(op, box, subgraph, spec)) for box in tiles_of(op, tiling)]
        for box, work in tiles:  # the units start and end each box one after the other
            compute += box.tile_count * work.steady + work.ends
            moved += box.tile_count * (work.load + work.store)
        compute += op.chunks * spec.issue_cycles
        constants = dma_work(spec, 1, op.constant_bytes, 1).cycles + spec.issue_cycles
        norm = dma_work(spec, 1, op.load("norm", "norm")[1], 1).cycles + spec.issue_cycles
        first, last = tiles[0][1], tiles[-1][1]
        return pipelined(spec, compute, constants + moved, first=norm + first.load, last=last.attend, tail=last.store)

    def emit(self, builder: Builder, subgraph: Subgraph, tiling: Tiling, operands: Operands) -> None:
        op = cuboid_op(subgraph)
        buffers = self.buffers(subgraph, builder.spec, tiling)
        emit_cuboids(builder, op, tiles_of(op, tiling), buffers, operands)


def tiles_of(op: CuboidAttention, tiling: Tiling) -> list[Box]:
    """The boxes with the tiles of a tiling; with global vectors tiles are leaves."""
    return list(op.leaf_boxes) if op.global_vectors else boxes(op.cuboids, tiling.rows)


def cuboid_op(subgraph: Subgraph) -> CuboidAttention:
    (op,) = subgraph.ops
    assert isinstance(op, CuboidAttention)
    return op


def cuboid_vector_cycles(op: CuboidAttention, spec: EngineSpec) -> float:
    """Lane cycles of the normalisation of every token and of the softmax over every row of logits, 16 bits wide."""
    vectors, tokens = op.global_vectors, op.size[0] * op.size[1] * op.size[2]
    shares = op.tokens * op.heads * (op.keys + vectors)
    norm = vector_work(spec, (tokens + vectors) * op.channels, passes(spec, Opcode.NORM), _dense(op)).vector
    return norm + vector_work(spec, shares, passes(spec, Opcode.SOFTMAX), _softmax(op)).vector


def cuboid_work(op: CuboidAttention, spec: EngineSpec) -> Work:
    """Work of each resource if every product were one instruction over all cuboids."""
    count = op.cuboids.count
    parts = [w for works in (*_array_works(op, count, spec), *_vector_works(op, count, spec)) for w in works]
    return Work(*(sum(getattr(part, name) for part in parts) for name in ("array", "output", "vector", "sram")))


def tile_work(op: CuboidAttention, box: Box, subgraph: Subgraph, spec: EngineSpec) -> TileWork:
    """What one tile of `box` costs each unit."""
    count = box.cuboids_per_tile
    score, attend = _array_works(op, count, spec)
    norm, softmax = _vector_works(op, count, spec)
    fills = sum(len(run.padding) for run in box.runs)

    def cycles(works: Sequence[Work]) -> float:
        return sum(work.cycles + spec.issue_cycles for work in works) + 2 * _SYNC_CYCLES

    return TileWork(
        cycles(score),
        cycles(attend),
        cycles(norm) + fills * spec.issue_cycles,
        cycles(softmax),
        _move_cycles(op, box, subgraph.input, spec),
        _move_cycles(op, box, subgraph.output, spec),
    )


def _array_works(op: CuboidAttention, cuboids: int, spec: EngineSpec) -> tuple[list[Work], list[Work]]:
    """Projection to queries, keys and values, and queries × keys; shares × values, and projection."""
    volume, groups, keys, far = op.cuboids.volume, cuboids * op.heads, op.keys, op.global_vectors
    depth, biased = op.head_channels, op.score_tables > 0

    def dense(outputs: int) -> Work:
        return conv_work(
            spec, cuboids, volume, outputs, op.channels, 1, 1, depthwise=False, residual=False, elements=_dense(op)
        )  # fmt: skip

    score = [dense(op.token_channels)]
    for count in (volume, far) if op.separate else (keys,):
        score.append(matmul_work(spec, groups, volume, count, depth, bias=biased, elements=_logits(op)))
    attend = [matmul_work(spec, groups, volume, depth, keys, bias=False, elements=_shares(op))]
    if op.projected:
        attend.append(dense(op.channels))
    if far:
        hides = op.hidden_tables > 0
        score.append(matmul_work(spec, groups, far, volume, depth, bias=hides, elements=_logits(op)))
        attend.append(matmul_work(spec, op.heads, far, depth, cuboids * keys, bias=False, elements=_shares(op)))
    return score, attend


def _vector_works(op: CuboidAttention, cuboids: int, spec: EngineSpec) -> tuple[list[Work], list[Work]]:
    """Normalisation; softmax of tokens and of global vectors."""
    volume, rows = op.cuboids.volume, op.heads * op.global_vectors
    norm = [vector_work(spec, cuboids * volume * op.channels, passes(spec, Opcode.NORM), _dense(op))]
    logits = cuboids * op.heads * volume * op.keys
    softmax = [vector_work(spec, logits, passes(spec, Opcode.SOFTMAX), _softmax(op))]
    if rows:
        logits = rows * (cuboids * op.keys + 1)  # a logarithm for each row
        softmax.append(vector_work(spec, logits, passes(spec, Opcode.SOFTMAX_LOG), _softmax(op)))
    return norm, softmax


def _move_cycles(op: CuboidAttention, box: Box, memory: Memory, spec: EngineSpec) -> float:
    """Gathering or scattering one tile: runs of the tokens that lie side by side, or single bytes in host order."""
    total = 0.0
    pieces = [1, 1, 1]
    for axis, run in enumerate(box.runs):
        pieces[axis] = len(run.pieces)
    tokens = box.cuboids_per_tile
    for run in box.runs:
        tokens *= sum(piece.count for piece in run.pieces)
    descriptors = pieces[0] * pieces[1] * pieces[2]
    if memory is Memory.HOST and op.channels > 1:
        work = dma_work(spec, tokens * op.channels, op.element_bytes, tokens * op.channels)
    else:
        run = _contiguous(op, box)
        work = dma_work(spec, max(1, tokens // run), run * op.channels * op.element_bytes, max(1, tokens // run))
    total += work.cycles + descriptors * spec.issue_cycles
    return total


def _contiguous(op: CuboidAttention, box: Box) -> int:
    """Tokens of a tile that lie one after the other in DRAM and in SRAM."""
    (piece, *others) = box.runs[2].pieces
    if others or piece.stride > 1 or (piece.count == 1 and box.tile[2] > 1 and box.runs[2].step > 1):
        return 1
    whole = piece.count == op.cuboids.cuboid[2] and box.runs[2].step == piece.count
    return piece.count * (box.tile[2] if whole and op.cuboids.cuboid[:2] == (1, 1) else 1)
