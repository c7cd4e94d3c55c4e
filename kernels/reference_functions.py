"""What tables, products, softmax, normalisation, reductions and resizing mean in integers; see `reference.py`.

Statistics are Python integers and `math.isqrt`; the rest is NumPy. No code is shared with the emulator, save the
records and tables of `tables.py`, which turn real numbers into operands.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .function_ops import Norm, Reduce, Reduction, Resize, Scale
from .reference import Map, Stage, finish, rescale
from .tables import Exponentials, NormRecords

_HALF = 2**14


def table(x: Map, values: NDArray[np.int8], clamp: tuple[float, float]) -> Map:
    """`values` by stored element, from −128 on."""
    return np.clip(values[x.astype(np.int64) + 128], *clamp).astype(np.int8)


def table16(x: Map, points: NDArray[np.int16], clamp: tuple[float, float]) -> Map:
    """Straight lines between 513 `points` for the inputs −2^15, −2^15 + 128, ...; rounds half up."""
    below, part = np.divmod(x.astype(np.int64) + 2**15, 128)
    low, high = points.astype(np.int64)[below], points.astype(np.int64)[below + 1]
    return np.clip((low * (128 - part) + high * part + 64) // 128, *clamp).astype(np.int16)


def mul(a: Map, b: Map, zero_points: tuple[int, int], stage: Stage) -> Map:
    """(a − zero point) × (b − zero point) through the output stage; a (1, 1, C) operand is broadcast."""
    return finish((a.astype(np.int64) - zero_points[0]) * (b.astype(np.int64) - zero_points[1]), stage)


def softmax(x: Map, powers: Exponentials, stage: Stage) -> Map:
    """Over the last axis: e^(x − max) from two tables, rounded shares with 15 fraction bits, then the output stage."""
    below = x.max(axis=-1, keepdims=True).astype(np.int64) - x
    product = powers.coarse.astype(np.int64)[below // 256] * powers.fine.astype(np.int64)[below % 256]
    rounded = (product + _HALF) // 2**15
    total = rounded.sum(axis=-1, keepdims=True)
    return finish((rounded * 2**15 + total // 2) // total, stage)


def norm(x: Map, op: Norm, epsilon: int, records: NormRecords, zero_point: int, clamp: tuple[float, float]) -> Map:
    """Group by group: (x − mean) / √(variance + ε), then the scale and offset of each channel."""
    height, width, channels = op.output
    y = np.empty(x.shape, np.int64)
    for batch in range(len(x)):
        for first in range(0, channels, op.group):
            lanes = slice(first, first + op.group)
            if op.over_map:
                y[batch, :, :, lanes] = _normalised(x[batch, :, :, lanes], epsilon)
                continue
            for place in np.ndindex(height, width):
                y[(batch, *place, lanes)] = _normalised(x[(batch, *place, lanes)], epsilon)
    scaled = (rescale(y, records.multiplier, records.shift) + records.bias + 128) // 256
    return np.clip(scaled + zero_point, *clamp).astype(x.dtype)


def _normalised(group: Map, epsilon: int) -> NDArray[np.int64]:
    """20 fraction bits; the reciprocal root has about 30 significant bits."""
    values = [int(v) for v in group.ravel()]
    total = sum(values)
    spread = len(values) * sum(v * v for v in values) - total**2 + epsilon
    if spread == 0:
        return np.zeros(group.shape, np.int64)
    exponent = (62 - spread.bit_length()) // 2
    root = math.isqrt(spread * 4**exponent if exponent >= 0 else spread // 4)
    reciprocal, shift = (2**61 + root // 2) // root, 41 - exponent
    scaled = [((len(values) * v - total) * reciprocal + 2 ** (shift - 1)) // 2**shift for v in values]
    return np.array(scaled, np.int64).reshape(group.shape)


def reduce(x: Map, op: Reduce, zero_point: int, stage: Stage) -> Map:
    """Maximum or sum over `op.count` neighbouring channels; the stage of a mean also divides."""
    grouped = x.astype(np.int64).reshape(*x.shape[:3], op.output[2], op.count) - zero_point
    return finish(grouped.max(axis=-1) if op.mode is Reduction.MAX else grouped.sum(axis=-1), stage)


def resize(x: Map, op: Resize, zero_point: int, stage: Stage) -> Map:
    """TOSA 1.0 RESIZE; the stage of an interpolation also divides by the sum of its weights."""
    centred = x.astype(np.int64) - zero_point
    for axis, scale, count in ((1, op.vertical, op.output[0]), (2, op.horizontal, op.output[1])):
        centred = _resized(centred, axis, scale, count, bilinear=op.bilinear)
    return finish(centred, stage)


def _resized(x: NDArray[np.int64], axis: int, scale: Scale, count: int, *, bilinear: bool) -> NDArray[np.int64]:
    size = x.shape[axis]
    lines: list[NDArray[np.int64]] = []
    for position in range(count):
        at = position * scale.denominator + scale.offset
        below, part = at // scale.numerator, at % scale.numerator
        first, second = (x.take([min(max(i, 0), size - 1)], axis) for i in (below, below + 1))
        if bilinear:
            lines.append(first * (scale.numerator - part) + second * part)
        else:
            lines.append(second if 2 * part >= scale.numerator else first)
    return np.concatenate(lines, axis)
