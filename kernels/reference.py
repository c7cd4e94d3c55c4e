"""What every operator means in integers, spelled out with NumPy and nothing of the engine.

This is the oracle that programs are compared with, so it shares no code with the emulator or the
kernels, save `rescale.py`, which turns real scales into operands. Maps are int8 or int16 arrays
(batch, height, width, channels); bf16 is in `reference_bf16.py`. Semantics: TOSA 1.0 CONV2D,
DEPTHWISE_CONV2D, MAX_POOL2D, ADD and RESCALE (scale32, single rounding); averages are a zero-point-free
sum and one RESCALE.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ProgramFault
from .ops import Window

Map = NDArray[Any]  # int8 or int16
Accumulator = NDArray[np.int32] | NDArray[np.int64]
INT32_MAX = 2**31 - 1
INT48_MAX = 2**47 - 1


@dataclass(frozen=True, slots=True)
class Stage:
    """Output stage: RESCALE by `multiplier` / 2^`shift` (one for all channels or one each), zero point, clamp."""

    multiplier: int | NDArray[np.int64]
    shift: int | NDArray[np.int64]
    zero_point: int
    clamp: tuple[float, float] = (-128, 127)
    dtype: str = "int8"


def rescale(value: NDArray[np.integer], multiplier: int | NDArray[np.int64], shift: int | NDArray[np.int64]) -> NDArray:
    """(value × multiplier + 2^(shift−1)) >> shift in int64; |value| < 2^31 keeps the product below 2^62."""
    shift64 = np.asarray(shift, np.int64)
    rounding = np.left_shift(np.int64(1), shift64 - 1)
    return (value.astype(np.int64) * np.asarray(multiplier, np.int64) + rounding) >> shift64


def finish(value: NDArray[np.integer], stage: Stage) -> Map:
    """Result of the output stage for accumulators whose last axis is the channel."""
    scaled = rescale(value, stage.multiplier, stage.shift) + stage.zero_point
    return np.clip(scaled, *stage.clamp).astype(stage.dtype)


def conv2d(
    x: Map,
    zero_point: int,
    weights: NDArray[np.int8],
    bias: NDArray[np.integer],
    window: Window,
    output: tuple[int, int],
    stage: Stage,
    *,
    depthwise: bool = False,
) -> Map:
    """Convolution of `x` with weights [out][row][column][in] (depthwise: last axis 1); padding counts as zero.

    Raises `ProgramFault` when an accumulator leaves int32, or 48 bits for int16 maps, which the engine could not hold.
    """
    largest = INT32_MAX if x.dtype == np.int8 else INT48_MAX
    worst = (255 if x.dtype == np.int8 else 2**15) * np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3)) + np.abs(
        bias.astype(np.int64)
    )
    dtype = np.int32 if worst.max() <= INT32_MAX else np.int64
    total = np.broadcast_to(bias.astype(dtype), (x.shape[0], *output, len(bias))).copy()
    for y, c, patch in _taps(_padded(x.astype(dtype) - dtype(zero_point), window, output, 0), window, output):
        tap = weights[:, y, c, :].astype(dtype)
        total += patch * tap[:, 0] if depthwise else np.einsum("nhwi,oi->nhwo", patch, tap)
    if np.abs(total.astype(np.int64)).max() > largest:
        bits = (largest + 1).bit_length()
        raise ProgramFault(f"accumulator {int(np.abs(total).max())} leaves int{bits}", hint="use smaller weight scales")
    return finish(total, stage)


def average_pool(x: Map, zero_point: int, window: Window, output: tuple[int, int], stage: Stage) -> Map:
    """Σ (x − zero point) over the window, then the output stage, whose scale holds the division by the window size."""
    centred = _padded(x.astype(np.int64) - zero_point, window, output, 0)
    total = sum(patch for _, _, patch in _taps(centred, window, output))
    return finish(np.asarray(total), stage)


def max_pool(x: Map, window: Window, output: tuple[int, int], clamp: tuple[float, float] = (-128, 127)) -> Map:
    """Maximum over those positions of the window that lie inside the map; scale and zero point do not change."""
    padded = _padded(x.astype(np.int64), window, output, -(2**31))
    best = np.full((x.shape[0], *output, x.shape[3]), -(2**31), np.int64)
    for _, _, patch in _taps(padded, window, output):
        best = np.maximum(best, patch)
    return np.clip(best, *clamp).astype(x.dtype)


def add(
    a: Map, b: Map, zero_points: tuple[int, int], operands: tuple[tuple[int, int], tuple[int, int]], stage: Stage
) -> Map:
    """RESCALE(a − zero point) + RESCALE(b − zero point), then the output stage."""
    left, right = (
        rescale(x.astype(np.int64) - zero, *operand)
        for x, zero, operand in zip((a, b), zero_points, operands, strict=True)
    )
    return finish(left + right, stage)


def matmul(a: Map, b: Map, zero_points: tuple[int, int], stage: Stage, *, transposed: bool) -> Map:
    """(batch, groups, m, k) by (batch, groups, k, n), or by (batch, groups, n, k) where `transposed`.

    Raises `ProgramFault` when an accumulator leaves int32, or 48 bits for an int16 `a`.
    """
    left, right = (x.astype(np.int64) - zero for x, zero in zip((a, b), zero_points, strict=True))
    total = np.einsum("bgmk,bgnk->bgmn" if transposed else "bgmk,bgkn->bgmn", left, right)
    largest = INT32_MAX if a.dtype == np.int8 else INT48_MAX
    if np.abs(total).max() > largest:
        raise ProgramFault(f"accumulator {int(np.abs(total).max())} leaves int{(largest + 1).bit_length()}")
    return finish(total, stage)


def requantise(x: Map, zero_point: int, stage: Stage) -> Map:
    return finish(x.astype(np.int64) - zero_point, stage)


def _padded(x: NDArray, window: Window, output: tuple[int, int], value: int) -> NDArray:
    """`x` with leading padding, and as much trailing padding as the last window needs."""
    need_h = (output[0] - 1) * window.stride_h + window.kernel_h - window.pad_h - x.shape[1]
    need_w = (output[1] - 1) * window.stride_w + window.kernel_w - window.pad_w - x.shape[2]
    edges = ((0, 0), (window.pad_h, max(0, need_h)), (window.pad_w, max(0, need_w)), (0, 0))
    return np.pad(x, edges, constant_values=value)


def _taps(padded: NDArray, window: Window, output: tuple[int, int]) -> Iterator[tuple[int, int, NDArray]]:
    """For every kernel position (row, column) the strided slice of inputs that it meets."""
    for row in range(window.kernel_h):
        for column in range(window.kernel_w):
            rows = slice(row, row + (output[0] - 1) * window.stride_h + 1, window.stride_h)
            columns = slice(column, column + (output[1] - 1) * window.stride_w + 1, window.stride_w)
            yield row, column, padded[:, rows, columns, :]
