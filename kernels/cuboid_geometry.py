"""Where the tokens of a (T, H, W) tensor go when it is cut into cuboids, and which of them see each other.

Earthformer (Gao et al. 2022, arXiv:2207.05833, §3.1): each axis is cut into blocks, consecutive ("l", local) or
every g-th token ("d", dilated), after a roll by `shift`. A cuboid is one block of every axis; its tokens are in
raster order of the positions inside. Everything here follows axis by axis, so an axis is the unit of this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from ..targets.cost import ceil_div

Triple: TypeAlias = tuple[int, int, int]
Strategy: TypeAlias = Literal["l", "d"]
Padding: TypeAlias = Literal["zeros", "ignore", "nearest"]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
PADDINGS: tuple[Padding, ...] = ("zeros", "ignore", "nearest")


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of `size` tokens in blocks of `block` tokens, rolled by `shift`.

    Blocks longer than the axis shrink to it and lose their shift; dilated ones have none. What the last block lacks is
    padding at the end or, with `nearest`, the axis is stretched to the size of its blocks.
    """

    size: int
    block: int
    shift: int
    strategy: Strategy
    nearest: bool = False

    @classmethod
    def of(cls, size: int, block: int, shift: int, strategy: str, *, nearest: bool = False) -> Axis:
        """The axis with the rules of clamping and shift applied."""
        if min(size, block) < 1 or not 0 <= shift < max(block, 1):
            raise UnsupportedError(f"an axis of {size} tokens cannot be cut into blocks of {block} with shift {shift}")
        if strategy not in ("l", "d"):
            raise UnsupportedError(f"strategy {strategy!r} is neither 'l' (local) nor 'd' (dilated)")
        if size <= block:
            return cls(size, size, 0, cast(Strategy, strategy), nearest)
        return cls(size, block, 0 if strategy == "d" else shift, cast(Strategy, strategy), nearest)

    @property
    def blocks(self) -> int:
        return ceil_div(self.size, self.block)

    @property
    def padded(self) -> int:
        """Size with the padding at the end that makes blocks equal."""
        return self.blocks * self.block

    @property
    def rolled(self) -> Ints:
        """Rolled position of inner token i of block n, (blocks, block)."""
        order = np.arange(self.padded)
        return order.reshape(self.blocks, -1) if self.strategy == "l" else order.reshape(-1, self.blocks).T

    @property
    def source(self) -> Ints:
        """Position before padding was cut off and before the roll, (blocks, block); `size` and above are padding."""
        return (self.rolled + self.shift) % self.padded

    @property
    def loads(self) -> Ints:
        """Position from which each token is read, (blocks, block); −1 for padding."""
        if self.nearest:
            return nearest_index(self.size, self.padded)[self.source]
        return np.where(self.source < self.size, self.source, -1)

    @property
    def stores(self) -> Ints:
        """Position to which each token returns, (blocks, block); −1 where it is dropped."""
        if not self.nearest:
            return self.loads
        found = np.full(self.padded, -1)
        found[nearest_index(self.padded, self.size)] = np.arange(self.size)
        return found[self.source]

    @property
    def labels(self) -> Ints:
        """Region of each token, (blocks, block): tokens that the roll brought together have different ones
        (Liu et al. 2021, arXiv:2103.14030, §3.2)."""
        if self.shift == 0:
            return np.zeros((self.blocks, self.block), np.int64)
        rolled = self.rolled
        return (rolled >= self.padded - self.block).astype(np.int64) + (rolled >= self.padded - self.shift)


@dataclass(frozen=True)
class Cuboids:
    """The decomposition of one tensor. `configured` is the cuboid before it was clamped to the tensor."""

    axes: tuple[Axis, Axis, Axis]
    configured: Triple
    padding: Padding

    @classmethod
    def of(cls, shape: Triple, cuboid: Triple, shift: Triple, strategy: tuple[str, str, str], padding: str) -> Cuboids:
        """
        Raises:
            UnsupportedError: a size, shift, strategy or padding that the decomposition does not know.
        """
        if padding not in PADDINGS:
            raise UnsupportedError(f"padding {padding!r} is none of {', '.join(PADDINGS)}")
        stretched = padding == "nearest"
        t, h, w = (Axis.of(*args, nearest=stretched) for args in zip(shape, cuboid, shift, strategy, strict=True))
        return cls((t, h, w), cuboid, cast(Padding, padding))

    @property
    def shape(self) -> Triple:
        return _triple(axis.size for axis in self.axes)

    @property
    def padded(self) -> Triple:
        return _triple(axis.padded for axis in self.axes)

    @property
    def blocks(self) -> Triple:
        return _triple(axis.blocks for axis in self.axes)

    @property
    def cuboid(self) -> Triple:
        return _triple(axis.block for axis in self.axes)

    @property
    def count(self) -> int:
        return int(np.prod(self.blocks))

    @property
    def volume(self) -> int:
        return int(np.prod(self.cuboid))

    @property
    def is_padded(self) -> bool:
        return self.padded != self.shape

    @cached_property
    def source(self) -> Ints:
        """Raster index in the padded tensor of every token, (cuboids, volume)."""
        t, h, w = (axis.source for axis in self.axes)
        _, height, width = self.padded
        flat = self._spread(t, 0) * height * width + self._spread(h, 1) * width + self._spread(w, 2)
        return flat.reshape(self.count, self.volume)

    @cached_property
    def gathered(self) -> Ints:
        """Raster index in the tensor from which each token is read, (cuboids, volume); −1 for padding."""
        return self._raster([axis.loads for axis in self.axes])

    @cached_property
    def scattered(self) -> Ints:
        """Number (cuboid × volume + place) of the token that returns to each place of the tensor, in raster order."""
        places = self._raster([axis.stores for axis in self.axes]).reshape(-1)
        kept = np.flatnonzero(places >= 0)
        found = np.empty(int(np.prod(self.shape)), np.int64)
        found[places[kept]] = kept
        return found

    def _raster(self, axes: list[Ints]) -> Ints:
        t, h, w = (self._spread(positions, number) for number, positions in enumerate(axes))
        _, height, width = self.shape
        inside = (t >= 0) & (h >= 0) & (w >= 0)
        return np.where(inside, (t * height + h) * width + w, -1).reshape(self.count, self.volume)

    @cached_property
    def valid(self) -> Bools:
        """False for tokens that are padding, (cuboids, volume)."""
        inside = [self._spread(axis.loads >= 0, n) for n, axis in enumerate(self.axes)]
        return np.broadcast_to(inside[0] & inside[1] & inside[2], self._full).reshape(self.count, self.volume)

    @cached_property
    def mask(self) -> Bools:
        """True where query i may see key j, (cuboids, volume, volume)."""
        seen = np.ones((self.count, self.volume, self.volume), np.bool_)
        for number, axis in enumerate(self.axes):
            label = np.broadcast_to(self._spread(axis.labels, number), self._full).reshape(self.count, self.volume)
            seen &= label[:, :, None] == label[:, None, :]
        if self.padding == "ignore":
            seen &= self.valid[:, :, None] & self.valid[:, None, :]
        return seen

    def bias_index(self, *, by_raster: bool = True) -> Ints:
        """Row of the relative-position table for query i and key j, (volume, volume).

        The table belongs to the configured cuboid. `by_raster` reads token f of a clamped cuboid at the coordinates
        that raster index f has in the configured one, as the published models were trained; otherwise at its own.
        """
        sizes = self.configured
        order = sizes if by_raster else self.cuboid
        coordinates = np.stack(np.unravel_index(np.arange(self.volume), order))
        offset = coordinates[:, :, None] - coordinates[:, None, :] + (np.array(sizes) - 1)[:, None, None]
        flat = np.ravel_multi_index(tuple(offset), tuple(2 * size - 1 for size in sizes))
        return np.asarray(flat, np.int64)

    @property
    def _full(self) -> tuple[int, ...]:
        return (*self.blocks, *self.cuboid)

    @staticmethod
    def _spread(values: NDArray, number: int) -> NDArray:
        """(blocks, block) of one axis as it broadcasts against (block t, h, w, inner t, h, w)."""
        shape = [1] * 6
        shape[number], shape[number + 3] = values.shape
        return values.reshape(shape)


def nearest_index(size: int, target: int) -> Ints:
    """Source position of each of `target` positions of a nearest-neighbour resize from `size`."""
    return np.arange(target) * size // target


def relative_position_index(cuboid: Triple) -> Ints:
    """`Cuboids.bias_index` of an unclamped cuboid."""
    whole = Cuboids.of(cuboid, cuboid, (0, 0, 0), ("l", "l", "l"), "zeros")
    return whole.bias_index()


def _triple(values: Iterable[int]) -> Triple:
    t, h, w = values
    return t, h, w
