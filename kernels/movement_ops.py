"""Operators that move elements, and transposed convolution: no kernel runs them as they are.

`export/movement.py` turns them into views of larger maps and into other operators. Feature maps are
(height, width, channels), axes are 0 for rows, 1 for columns, 2 for channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from .ops import Shape, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moves:
    """What all operators without arithmetic share: the type of the elements, which pass unchanged."""

    dtype: str = "int8"

    @property
    def macs(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Concat(_Moves):
    """Maps one after the other along `axis`."""

    inputs: tuple[Shape, ...]
    axis: int

    def __post_init__(self) -> None:
        _check_axis(self.axis)
        others = {tuple(n for a, n in enumerate(shape) if a != self.axis) for shape in self.inputs}
        if len(others) != 1:
            raise UnsupportedError(f"maps {self.inputs} cannot stand in a row along axis {self.axis}")

    @property
    def input(self) -> Shape:
        return self.inputs[0]

    @property
    def output(self) -> Shape:
        total = sum(shape[self.axis] for shape in self.inputs)
        height, width, channels = (total if axis == self.axis else n for axis, n in enumerate(self.inputs[0]))
        return height, width, channels

    @property
    def starts(self) -> tuple[Shape, ...]:
        """Where each input begins in the output."""
        found: list[Shape] = []
        begin = 0
        for shape in self.inputs:
            row, col, channel = (begin if axis == self.axis else 0 for axis in range(3))
            found.append((row, col, channel))
            begin += shape[self.axis]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Slice(_Moves):
    """The part of a map from element `start` on, every `steps`-th row and column of it."""

    input: Shape
    output: Shape
    start: Shape = (0, 0, 0)
    steps: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        for size, count, first, step in zip(self.input, self.output, self.start, (*self.steps, 1), strict=True):
            if first < 0 or count < 1 or step < 1 or first + (count - 1) * step >= size:
                raise UnsupportedError(f"{self.output} from {self.start} by {self.steps} leaves the {self.input} map")


@dataclass(frozen=True, slots=True)
class Pad(_Moves):
    """The map with zeros (its zero point) around: `top` rows and `left` columns before it, the rest after."""

    input: Shape
    output: Shape
    top: int
    left: int

    def __post_init__(self) -> None:
        inside = all(
            before >= 0 and before + size <= total
            for before, size, total in zip((self.top, self.left, 0), self.input, self.output, strict=True)
        )
        if not inside or self.input[2] != self.output[2]:
            raise UnsupportedError(f"a {self.input} map at ({self.top}, {self.left}) does not fit into {self.output}")


@dataclass(frozen=True, slots=True)
class Transpose(_Moves):
    """Rows become columns."""

    input: Shape

    @property
    def output(self) -> Shape:
        return self.input[1], self.input[0], self.input[2]


@dataclass(frozen=True, slots=True)
class DepthToSpace(_Moves):
    """Channel (i × block + j) × C + c of (r, q) becomes channel c of (r × block + i, q × block + j).

    ONNX calls this order DCR. `columns_first` is its CRD: channel c × block² + i × block + j goes there.
    """

    input: Shape
    block: int
    columns_first: bool = False

    def __post_init__(self) -> None:
        if self.block < 1 or self.input[2] % self.block**2:
            raise UnsupportedError(f"{self.input[2]} channels do not make blocks of {self.block}x{self.block}")

    @property
    def output(self) -> Shape:
        height, width, channels = self.input
        return height * self.block, width * self.block, channels // self.block**2


@dataclass(frozen=True, slots=True)
class SpaceToDepth(_Moves):
    """The inverse of `DepthToSpace`."""

    input: Shape
    block: int

    def __post_init__(self) -> None:
        if self.block < 1 or self.input[0] % self.block or self.input[1] % self.block:
            raise UnsupportedError(f"a {self.input} map has no whole blocks of {self.block}x{self.block}")

    @property
    def output(self) -> Shape:
        height, width, channels = self.input
        return height // self.block, width // self.block, channels * self.block**2


@dataclass(frozen=True, slots=True)
class Rearrange(_Moves):
    """The elements of a map in the order of another shape, all of them or every so many: heads, turned matrices.

    Both maps are counted from their first element in the engine's order (rows, columns, channels). Element (r, c, k)
    of the output is element start + r × steps[0] + c × steps[1] + k × steps[2] of the input; with `scatter` it is the
    other way round, element (r, c, k) of the input goes there in the output, and every place is met once.
    `keeps_integers`: stored elements stay as they are although the output has another scale, as after a scalar factor.
    """

    input: Shape
    output: Shape
    start: int
    steps: Shape
    scatter: bool = False
    keeps_integers: bool = False

    def __post_init__(self) -> None:
        inner, outer = (self.input, self.output) if self.scatter else (self.output, self.input)
        last = self.start + sum((n - 1) * step for n, step in zip(inner, self.steps, strict=True))
        if min(*inner, *outer) < 1 or min(self.start, *self.steps) < 0 or last >= prod(outer):
            raise UnsupportedError(f"{self.output} from {self.start} by {self.steps} leaves the {self.input} map")
        if self.scatter and (prod(inner) != prod(outer) or len(np.unique(self._places(inner))) != prod(outer)):
            raise UnsupportedError(f"{self.input} by {self.steps} does not fill {self.output}")

    @property
    def indices(self) -> NDArray[np.int64]:
        """For each element of the output, in its shape, the number of the input's element that it is."""
        if not self.scatter:
            return self._places(self.output)
        found = np.empty(prod(self.output), np.int64)
        found[self._places(self.input).reshape(-1)] = np.arange(prod(self.input))
        return found.reshape(self.output)

    def _places(self, shape: Shape) -> NDArray[np.int64]:
        return self.start + np.tensordot(np.array(self.steps, np.int64), np.indices(shape, np.int64), 1)

    @classmethod
    def of(cls, source: Shape, indices: NDArray[np.int64]) -> Rearrange:
        """The operator that gives element `indices[r, c, k]` of a `source` map.

        Raises:
            UnsupportedError: no start and steps describe it.
        """
        output: Shape = indices.shape  # pyright: ignore[reportAssignmentType]
        found = strides(indices)
        if found is not None:
            return cls(source, output, *found)
        flat = indices.reshape(-1)
        if flat.size == prod(source) and np.array_equal(np.sort(flat), np.arange(flat.size)):
            found = strides(np.argsort(flat).reshape(source))
            if found is not None:
                return cls(source, output, *found, scatter=True)
        raise UnsupportedError(f"no steps through a {source} map give this order of {output}")


def strides(indices: NDArray[np.int64]) -> tuple[int, Shape] | None:
    """Start and steps of an array of three axes whose elements are linear in their position; None for any other."""
    start = int(indices[0, 0, 0])
    firsts = (indices[1:2, 0, 0], indices[0, 1:2, 0], indices[0, 0, 1:2])
    a, b, c = (int(first[0]) - start if first.size else 0 for first in firsts)
    expected = start + np.tensordot(np.array([a, b, c], np.int64), np.indices(indices.shape, np.int64), 1)
    return (start, (a, b, c)) if min(a, b, c) >= 0 and np.array_equal(expected, indices) else None


@dataclass(frozen=True, slots=True)
class TransposedConv2d:
    """Transposed convolution: input element (r, q) adds w[y, x] times itself to (r × stride − pad + y, ...).

    Weights are [output channel][kernel row][kernel column][input channel] (depthwise: last axis 1).
    """

    input: Shape
    output: Shape
    window: Window
    depthwise: bool = False
    dtype: str = "int8"

    def __post_init__(self) -> None:
        w = self.window
        if min(*self.input, *self.output, w.kernel_h, w.kernel_w, w.stride_h, w.stride_w) < 1:
            raise UnsupportedError(f"empty map or window: {self.input} to {self.output}, {w}")
        if not (0 <= w.pad_h < w.kernel_h and 0 <= w.pad_w < w.kernel_w):
            raise UnsupportedError(f"transposed window {w} needs 0 <= padding < kernel")
        if self.depthwise and self.input[2] != self.output[2]:
            raise UnsupportedError(f"depthwise convolution maps {self.input[2]} channels to {self.output[2]}")

    @property
    def macs(self) -> int:
        """Products that add to an element of the output or, at the border, would."""
        return prod(self.input[:2]) * self.window.taps * self.output[2] * (1 if self.depthwise else self.input[2])


Movement: TypeAlias = Concat | Slice | Pad | Transpose | Rearrange | DepthToSpace | SpaceToDepth | TransposedConv2d


def _check_axis(axis: int) -> None:
    if axis not in (0, 1, 2):
        raise UnsupportedError(f"a feature map has axes 0, 1 and 2, not {axis}")
