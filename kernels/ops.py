"""Shape-level operators: what a kernel needs to know, and nothing of models, weights or ONNX.

Feature maps are (height, width, channels), batch 1. A vector of n features is (1, 1, n). `dtype` is the element
type of the maps: int8, int16 or bf16 (`element_types.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from ..common.errors import UnsupportedError
from .cuboid_op import CuboidAttention
from .function_ops import Mul, Norm, Reduce, Resize, Softmax, Table

Shape: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, stride and leading padding. Trailing padding follows from the output size."""

    kernel_h: int
    kernel_w: int
    stride_h: int = 1
    stride_w: int = 1
    pad_h: int = 0
    pad_w: int = 0

    @property
    def taps(self) -> int:
        return self.kernel_h * self.kernel_w


@dataclass(frozen=True, slots=True)
class Conv2d:
    """Convolution, dense or depthwise; a linear layer is a dense 1×1 one on a (1, 1, n) map."""

    input: Shape
    output: Shape
    window: Window
    depthwise: bool = False
    dtype: str = "int8"

    def __post_init__(self) -> None:
        _check_window(self)
        if self.depthwise and self.input[2] != self.output[2]:
            raise UnsupportedError(f"depthwise convolution maps {self.input[2]} channels to {self.output[2]}")

    @property
    def macs(self) -> int:
        return prod(self.output) * self.window.taps * (1 if self.depthwise else self.input[2])

    @property
    def weights_per_channel(self) -> int:
        return self.window.taps * (1 if self.depthwise else self.input[2])


@dataclass(frozen=True, slots=True)
class Pool2d:
    """Maximum, or average over all window positions. Padding is refused for the average, but where windows are of a
    single element: such an average writes its map with zeros around."""

    input: Shape
    output: Shape
    window: Window
    maximum: bool
    dtype: str = "int8"

    def __post_init__(self) -> None:
        _check_window(self)

    @property
    def pads(self) -> bool:
        """True for an average that only surrounds its map with zeros, as many as the output has room for."""
        w = self.window
        padded = w.pad_h > 0 or w.pad_w > 0 or self.output[0] > self.input[0] or self.output[1] > self.input[1]
        return padded and not self.maximum and (w.kernel_h, w.kernel_w, w.stride_h, w.stride_w) == (1, 1, 1, 1)

    @property
    def macs(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Add:
    """Element-wise sum of two maps of one shape."""

    output: Shape
    dtype: str = "int8"

    @property
    def input(self) -> Shape:
        return self.output

    @property
    def macs(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Requantise:
    """New scale, zero point and clamp for every element: a lone ReLU, ReLU6, Clip, change of scale or element type."""

    output: Shape
    dtype: str = "int8"
    source_dtype: str = "int8"

    @property
    def input(self) -> Shape:
        return self.output

    @property
    def macs(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class MatMul:
    """Product of two activations, matrix by matrix: (groups, m, k) by (groups, k, n), or (groups, n, k) `transposed`.

    A map holds a matrix in each of its rows: (height, width, channels) = (groups, rows, columns). Beside int16 maps the
    second operand is int8.
    """

    input: Shape
    other: Shape
    transposed: bool = False
    dtype: str = "int8"

    def __post_init__(self) -> None:
        groups, _, depth = self.input
        inner = self.other[2] if self.transposed else self.other[1]
        if self.other[0] != groups or inner != depth or min(*self.input, *self.other) < 1:
            raise UnsupportedError(f"matrices {self.input} and {self.other} cannot be multiplied")

    @property
    def output(self) -> Shape:
        return (*self.input[:2], self.other[1] if self.transposed else self.other[2])

    @property
    def macs(self) -> int:
        return prod(self.output) * self.input[2]


Op: TypeAlias = (
    Conv2d | MatMul | Pool2d | Add | Requantise | Table | Mul | Softmax | Norm | Reduce | Resize | CuboidAttention
)


def _check_window(op: Conv2d | Pool2d) -> None:
    """Refuses impossible windows, and drops strides that a single output position never takes: one form per shape."""
    if min(*op.input, *op.output) < 1:
        raise UnsupportedError(f"empty map: {op.input} to {op.output}")
    if isinstance(op, Pool2d) and op.pads:
        return
    for axis, (kernel, stride, pad) in enumerate(
        (
            (op.window.kernel_h, op.window.stride_h, op.window.pad_h),
            (op.window.kernel_w, op.window.stride_w, op.window.pad_w),
        )
    ):
        if kernel < 1 or stride < 1 or not 0 <= pad < kernel:
            raise UnsupportedError(f"window {op.window} needs kernel >= 1, stride >= 1 and 0 <= padding < kernel")
        if (op.output[axis] - 1) * stride - pad >= op.input[axis]:
            raise UnsupportedError(f"last window of {op.window} lies outside of the {op.input} map")
    if 1 in op.output[:2]:
        steps = {f"stride_{a}": 1 for a, size in zip("hw", op.output[:2], strict=True) if size == 1}
        object.__setattr__(op, "window", replace(op.window, **steps))
