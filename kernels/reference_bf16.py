"""What every operator means in bf16: float32 operations in a fixed order, and one rounding of the result.

The counterpart of `reference.py`, just as free of the engine's code. Maps are float32 arrays (batch, height, width,
channels) whose values bf16 holds. A sum starts at +0 and takes its products one after the other, kernel rows first,
then kernel columns, then input channels; the bias comes last. Rounding to bf16 is to nearest, ties to even.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .movement_ops import TransposedConv2d
from .ops import Window

Real = NDArray[np.float32]
Clamp = tuple[float, float]


def to_bf16(values: NDArray[np.floating]) -> Real:
    """The nearest bf16 values, by scaling the 8-bit significand to an integer. Infinities stay, NaN too."""
    exact = np.asarray(values, np.float32).astype(np.float64)
    _, exponent = np.frexp(exact)
    unit = np.ldexp(1.0, np.maximum(exponent, -125) - 8)  # spacing of bf16 numbers there; constant below 2^-126
    with np.errstate(over="ignore", invalid="ignore"):
        return (np.rint(exact / unit) * unit).astype(np.float32)


def finish(total: Real, clamp: Clamp) -> Real:
    """Clamped and rounded result; −0 becomes +0."""
    bounded = np.minimum(np.maximum(total + np.float32(0), np.float32(clamp[0])), np.float32(clamp[1]))
    return to_bf16(bounded)


def conv2d(
    x: Real,
    weights: Real,
    bias: Real,
    window: Window,
    output: tuple[int, int],
    clamp: Clamp,
    *,
    depthwise: bool = False,
) -> Real:
    """Convolution with weights [out][row][column][in] (depthwise: last axis 1)."""
    padded = _padded(x, window, output, 0.0)
    total = np.zeros((len(x), *output, len(bias)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for row in range(window.kernel_h):
            for column in range(window.kernel_w):
                patch, tap = _patch(padded, window, output, row, column), weights[:, row, column, :]
                if depthwise:
                    total = total + patch * tap[:, 0]
                    continue
                for channel in range(patch.shape[3]):
                    total = total + patch[..., channel, None] * tap[:, channel]
        return finish(total + bias.astype(np.float32), clamp)


def transposed_conv2d(x: Real, weights: Real, bias: Real, op: TransposedConv2d, clamp: Clamp) -> Real:
    """Every output takes its products by ascending input row, column and channel, the bias last."""
    w, (height, width, _), (rows, cols, channels) = op.window, op.input, op.output
    reach = ((height - 1) * w.stride_h + w.kernel_h, (width - 1) * w.stride_w + w.kernel_w)
    sums = np.zeros((len(x), max(reach[0], rows + w.pad_h), max(reach[1], cols + w.pad_w), channels), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for row, column in np.ndindex(w.kernel_h, w.kernel_w):  # later taps meet earlier inputs
            down, right = w.kernel_h - 1 - row, w.kernel_w - 1 - column
            place = sums[:, down:, right:][:, : (height - 1) * w.stride_h + 1, : (width - 1) * w.stride_w + 1]
            view, tap = place[:, :: w.stride_h, :: w.stride_w], weights[:, down, right, :]
            if op.depthwise:
                view += x * tap[:, 0]
                continue
            for channel in range(x.shape[3]):
                view += x[..., channel, None] * tap[:, channel]
        return finish(sums[:, w.pad_h : w.pad_h + rows, w.pad_w : w.pad_w + cols] + bias.astype(np.float32), clamp)


def matmul(a: Real, b: Real, clamp: Clamp, *, transposed: bool) -> Real:
    """(batch, groups, m, k) by (batch, groups, k, n), or by (batch, groups, n, k) where `transposed`; k ascending."""
    columns = b if transposed else b.transpose(0, 1, 3, 2)
    total: Real = np.zeros((*a.shape[:3], columns.shape[2]), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(a.shape[3]):
            products: Real = np.multiply(a[..., k, None], columns[:, :, None, :, k])
            total = np.add(total, products)
        return finish(total, clamp)


def average_pool(x: Real, window: Window, output: tuple[int, int], clamp: Clamp) -> Real:
    """Sum of each column of the window from the top, these from the left, times the float32 nearest to 1 / taps."""
    padded = _padded(x, window, output, 0.0)
    total = np.zeros((len(x), *output, x.shape[3]), np.float32)
    for column in range(window.kernel_w):
        partial = np.zeros_like(total)
        for row in range(window.kernel_h):
            partial = partial + _patch(padded, window, output, row, column)
        total = total + partial
    return finish(total * np.float32(1 / window.taps), clamp)


def max_pool(x: Real, window: Window, output: tuple[int, int], clamp: Clamp) -> Real:
    padded = _padded(x, window, output, -np.inf)
    best = np.full((len(x), *output, x.shape[3]), -np.inf, np.float32)
    for row in range(window.kernel_h):
        for column in range(window.kernel_w):
            best = np.maximum(best, _patch(padded, window, output, row, column))
    return finish(best, clamp)


def add(a: Real, b: Real, clamp: Clamp) -> Real:
    with np.errstate(over="ignore", invalid="ignore"):
        return finish(a + b, clamp)


def dequantise(x: NDArray[np.integer], scale: float, zero_point: int, clamp: Clamp) -> Real:
    """bf16 values of integers: float32 (x − zero point) × the float32 nearest to `scale`."""
    return finish((x.astype(np.int64) - zero_point).astype(np.float32) * np.float32(scale), clamp)


def quantise(x: Real, scale: float, zero_point: int, clamp: Clamp, dtype: str) -> NDArray[np.integer]:
    """Integers nearest to x × the float32 nearest to 1 / `scale`, ties to even; NaN counts as 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.rint(x * np.float32(1 / scale)).astype(np.float64)
    steps = np.where(np.isnan(steps), 0.0, steps)
    return np.clip(steps + zero_point, *clamp).astype(dtype)


def _padded(x: Real, window: Window, output: tuple[int, int], value: float) -> Real:
    """`x` with leading padding, and as much trailing padding as the last window needs."""
    need_h = (output[0] - 1) * window.stride_h + window.kernel_h - window.pad_h - x.shape[1]
    need_w = (output[1] - 1) * window.stride_w + window.kernel_w - window.pad_w - x.shape[2]
    edges = ((0, 0), (window.pad_h, max(0, need_h)), (window.pad_w, max(0, need_w)), (0, 0))
    return np.pad(x, edges, constant_values=value)


def _patch(padded: Real, window: Window, output: tuple[int, int], row: int, column: int) -> Real:
    """The strided slice of inputs that one kernel position meets."""
    rows = slice(row, row + (output[0] - 1) * window.stride_h + 1, window.stride_h)
    columns = slice(column, column + (output[1] - 1) * window.stride_w + 1, window.stride_w)
    return padded[:, rows, columns, :]
