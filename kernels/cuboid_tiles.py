"""Cuboids as boxes of equal ones, and how a box is gathered: strides of DMA descriptors, no index tables.

Along one axis, neighbouring blocks that are padded, wrapped and masked alike form a `Run`. A box is one run of
every axis, so its cuboids share one mask, and one set of descriptors serves all of them. An unshifted, unpadded
axis is a single run; a shift adds one, whose block takes its tokens from both ends of the axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from .cuboid_geometry import Axis, Bools, Cuboids, Triple


@dataclass(frozen=True, slots=True)
class Piece:
    """`count` inner tokens from `inner` on lie at source positions `source`, `source + stride` ... of the run's
    first block."""

    inner: int
    count: int
    source: int
    stride: int


@dataclass(frozen=True, slots=True)
class Run:
    """`count` blocks from `first` on; each begins `step` source positions behind the one before.

    `padding` are spans (first, count) of inner tokens that lie outside of the tensor. `returns` are the pieces that
    return to the tensor, `step` positions apart too: those that came, unless the axis is stretched.
    """

    first: int
    count: int
    step: int
    pieces: tuple[Piece, ...]
    padding: tuple[tuple[int, int], ...]
    returns: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """One run of each axis, cut into tiles of `tile` blocks."""

    runs: tuple[Run, Run, Run]
    tile: Triple

    @property
    def tiles(self) -> Triple:
        t, h, w = (run.count // size for run, size in zip(self.runs, self.tile, strict=True))
        return t, h, w

    @property
    def tile_count(self) -> int:
        t, h, w = self.tiles
        return t * h * w

    @property
    def cuboids_per_tile(self) -> int:
        t, h, w = self.tile
        return t * h * w

    def cuboid_ids(self, blocks: Triple) -> Iterator[list[int]]:
        """Raster numbers of the cuboids of each tile, tiles and cuboids in the order in which they are moved."""
        for corner in product(*(range(n) for n in self.tiles)):
            ranges = (
                range(run.first + index * size, run.first + (index + 1) * size)
                for run, index, size in zip(self.runs, corner, self.tile, strict=True)
            )
            yield [int(np.ravel_multi_index(block, blocks)) for block in product(*ranges)]


def boxes(cuboids: Cuboids, cuboids_per_tile: int) -> list[Box]:
    """The boxes of a decomposition in raster order, with tiles of at most so many cuboids that divide them evenly."""
    found = []
    for t, h, w in product(*(axis_runs(axis) for axis in cuboids.axes)):
        across = _divisor(w.count, cuboids_per_tile)
        down = _divisor(h.count, cuboids_per_tile // across)
        deep = _divisor(t.count, cuboids_per_tile // (across * down))
        found.append(Box((t, h, w), (deep, down, across)))
    return found


def box_mask(cuboids: Cuboids, box: Box) -> Bools:
    """The (volume, volume) mask that all cuboids of a box share."""
    first = np.ravel_multi_index(tuple(run.first for run in box.runs), cuboids.blocks)
    return cuboids.mask[first]


@lru_cache(maxsize=4096)
def axis_runs(axis: Axis) -> tuple[Run, ...]:
    """Blocks of an axis in order, grouped while they differ by a constant step only."""
    labels, found = axis.labels, []
    shapes: list[bytes] = []
    for block in range(axis.blocks):
        run = _block_run(axis, block)
        shape = labels[block].tobytes()
        if found and shape == shapes[-1] and (joined := _joined(found[-1], run)):
            found[-1] = joined
            continue
        found.append(run)
        shapes.append(shape)
    return tuple(found)


def _block_run(axis: Axis, block: int) -> Run:
    loads = [int(s) for s in axis.loads[block]]
    padding: list[tuple[int, int]] = []
    for inner, source in enumerate(loads):
        if source >= 0:
            continue
        if padding and sum(padding[-1]) == inner:
            padding[-1] = (padding[-1][0], padding[-1][1] + 1)
        else:
            padding.append((inner, 1))
    returns = _pieces(int(s) for s in axis.stores[block])
    return Run(block, 1, 0, _pieces(loads), tuple(padding), returns)


def _pieces(positions: Iterable[int]) -> tuple[Piece, ...]:
    """Inner tokens at positions of one stride, in as few pieces as possible; negative positions belong to none."""
    found: list[Piece] = []
    for inner, position in enumerate(positions):
        if position < 0:
            continue
        if found and (longer := _extended(found[-1], inner, position)):
            found[-1] = longer
        else:
            found.append(Piece(inner, 1, position, 0))
    return tuple(found)


def _extended(piece: Piece, inner: int, source: int) -> Piece | None:
    """The piece with one token more, if that lies where its stride says."""
    if piece.inner + piece.count != inner:
        return None
    stride = source - piece.source if piece.count == 1 else piece.stride
    if stride <= 0 or source != piece.source + piece.count * stride:
        return None
    return Piece(piece.inner, piece.count + 1, piece.source, stride)


def _joined(run: Run, block: Run) -> Run | None:
    """`run` with one block more, if that continues it."""
    before, after = (*run.pieces, *run.returns), (*block.pieces, *block.returns)
    if run.padding != block.padding or len(run.pieces) != len(block.pieces) or len(before) != len(after):
        return None
    steps: set[int] = set()
    for one, other in zip(before, after, strict=True):
        if (one.inner, one.count, one.stride) != (other.inner, other.count, other.stride):
            return None
        steps.add(other.source - one.source)
    if len(steps) > 1:
        return None
    (step,) = steps or {0}
    if run.count > 1 and step != run.step * run.count:
        return None
    return replace(run, count=run.count + 1, step=run.step if run.count > 1 else step)


def _divisor(total: int, limit: int) -> int:
    """The largest divisor of `total` up to `limit`, at least 1."""
    return next(size for size in range(min(total, max(1, limit)), 0, -1) if total % size == 0)
