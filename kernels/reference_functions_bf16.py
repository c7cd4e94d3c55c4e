"""What tables, products, softmax, normalisation, reductions and resizing mean in bf16; see `reference_bf16.py`.

float32 operations, one rounding each, in the order in which they stand here; sums start at +0. No code is shared
with the emulator, save the tables of `tables.py`, which turn real functions into operands.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..targets.table_float import FloatTable
from .function_ops import Norm, Reduce, Reduction, Resize, Scale
from .reference_bf16 import Clamp, Real, finish

_LARGEST = np.float32(255 * 2.0**120)  # of bf16
_BIAS = 127


def table(x: Real, entries: FloatTable, clamp: Clamp) -> Real:
    """The entry of x where its exponent has entries, and one of three straight lines elsewhere."""
    side = len(entries.results) // 2
    mantissa, exponent = np.frexp(np.abs(x))
    place = (exponent.astype(np.int64) - 1 + _BIAS - entries.exponent) * 128
    place += np.where(np.isfinite(x), (2 * mantissa - 1) * 128, 0).astype(np.int64)
    place = np.where(np.isfinite(x), np.where(x == 0, -1, place), side)
    held = entries.results[np.clip(place, 0, side - 1) + np.where(x < 0, side, 0)]
    line = np.where(place < 0, 0, np.where(x < 0, 2, 1))
    with np.errstate(over="ignore", invalid="ignore"):
        straight = entries.lines[line, 0] + entries.lines[line, 1] * np.clip(x, -_LARGEST, _LARGEST)
        return finish(np.where((place >= 0) & (place < side), held, straight), clamp)


def mul(a: Real, b: Real, clamp: Clamp) -> Real:
    """a × b; a (1, 1, C) operand is broadcast."""
    with np.errstate(over="ignore", invalid="ignore"):
        return finish(a * b, clamp)


def softmax(x: Real, clamp: Clamp) -> Real:
    """Over the last axis: e^(x − max), from float64, over the sum of these in the order of the channels."""
    with np.errstate(over="ignore", invalid="ignore"):
        below = (x - x.max(axis=-1, keepdims=True)).astype(np.float64)
        powers = np.exp(below).astype(np.float32)
        return finish(powers / _sum(np.moveaxis(powers, -1, 0))[..., None], clamp)


def norm(x: Real, op: Norm, epsilon: float, gamma: NDArray, beta: NDArray, clamp: Clamp) -> Real:
    """Group by group: (x − mean) / √(variance + ε) × gamma + beta, sums over rows, columns and channels."""
    y = np.empty_like(x)
    for first in range(0, op.output[2], op.group):
        lanes = slice(first, first + op.group)
        part = x[..., lanes]
        axes = part.reshape(len(x), -1).T if op.over_map else np.moveaxis(part, -1, 0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            y[..., lanes] = np.moveaxis(_normalised(axes, np.float32(epsilon)), 0, -1).reshape(part.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        return finish(y * gamma.astype(np.float32) + beta.astype(np.float32), clamp)


def _normalised(elements: Real, epsilon: np.float32) -> Real:
    """The statistics are those of the first axis."""
    count = np.float32(len(elements))
    centred = elements - _sum(elements) / count
    return np.divide(centred, np.sqrt(_sum(centred * centred) / count + epsilon), dtype=np.float32)


def reduce(x: Real, op: Reduce, clamp: Clamp) -> Real:
    """Maximum over `op.count` neighbouring channels, or their sum, for a mean times the float32 nearest to 1 / n."""
    grouped = x.reshape(*x.shape[:3], op.output[2], op.count)
    if op.mode is Reduction.MAX:
        return finish(grouped.max(axis=-1), clamp)
    factor = np.float32(1 / op.count if op.mode is Reduction.MEAN else 1)
    with np.errstate(over="ignore", invalid="ignore"):
        return finish(_sum(np.moveaxis(grouped, -1, 0)) * factor, clamp)


def resize(x: Real, op: Resize, clamp: Clamp) -> Real:
    """Rows first, then columns; the sum of the weights is divided away by the float32 nearest to its reciprocal."""
    with np.errstate(over="ignore", invalid="ignore"):
        for axis, scale, count in ((1, op.vertical, op.output[0]), (2, op.horizontal, op.output[1])):
            x = _resized(x, axis, scale, count, bilinear=op.bilinear)
        weights = op.vertical.numerator * op.horizontal.numerator if op.bilinear else 1
        return finish(x * np.float32(1 / weights), clamp)


def _resized(x: Real, axis: int, scale: Scale, count: int, *, bilinear: bool) -> Real:
    last = x.shape[axis] - 1
    lines: list[NDArray] = []
    for position in range(count):
        below, part = divmod(position * scale.denominator + scale.offset, scale.numerator)
        first, second = (x.take([min(max(i, 0), last)], axis) for i in (below, below + 1))
        if bilinear:
            lines.append(first * np.float32(scale.numerator - part) + second * np.float32(part))
        else:
            lines.append(second if 2 * part >= scale.numerator else first)
    return np.concatenate(lines, axis).astype(np.float32, copy=False)


def _sum(terms: Iterable[Real]) -> Real:
    total: Real = np.float32(0)  # type: ignore[assignment]
    for term in terms:
        total = total + term
    return total
