"""Operators that move elements, and transposed convolution: no kernel runs them as they are.

`export/movement.py` turns them into views of larger maps and into other operators. Feature maps are
(height, width, channels), axes are 0 for rows, 1 for columns, 2 for channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from ..common.errors import UnsupportedError
from .ops import Shape, Window


class _Moves:
    """What all operators without arithmetic share."""

    __slots__ = ()

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
class TransposedConv2d:
    """Transposed convolution: input element (r, q) adds w[y, x] times itself to (r × stride − pad + y, ...).

    Weights are [output channel][kernel row][kernel column][input channel] (depthwise: last axis 1).
    """

    input: Shape
    output: Shape
    window: Window
    depthwise: bool = False

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


Movement: TypeAlias = Concat | Slice | Pad | Transpose | DepthToSpace | SpaceToDepth | TransposedConv2d


def _check_axis(axis: int) -> None:
    if axis not in (0, 1, 2):
        raise UnsupportedError(f"a feature map has axes 0, 1 and 2, not {axis}")
