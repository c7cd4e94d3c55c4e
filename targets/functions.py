"""Integer softmax, normalisation and resampling on arrays, bit for bit as the docstring of `isa` defines them.

Everything fits int64: with n <= 2^16 elements of at most 16 bits, n × Σ x² <= 2^62, |n × x − Σ x| < 2^32 and the
reciprocal root is at most 2^31.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOFTMAX_BITS = 15  # fraction bits of exponentials and of shares
NORM_BITS = 20  # fraction bits of a normalised element
_ROOT_BITS = 61  # the reciprocal of a root of 31 bits has 31 bits as well
_RADICAND_BITS = 62

Integers = NDArray[np.int64]


def shares(found: Integers, total: Integers) -> Integers:
    """Exponentials as shares of their total with 15 fraction bits; a total of 0 gives 0."""
    return ((found << SOFTMAX_BITS) + (total >> 1)) // np.maximum(total, 1)


def powers(logits: Integers, masked: NDArray[np.bool_], coarse: Integers, fine: Integers) -> Integers:
    """Exponentials with 15 fraction bits of the distances from the largest over the last axis; 0 where masked."""
    largest = np.where(masked, np.iinfo(np.int64).min, logits).max(axis=-1, keepdims=True)
    distance = np.where(masked, 0, largest - logits)
    found = (coarse[distance >> 8] * fine[distance & 255] + (1 << (SOFTMAX_BITS - 1))) >> SOFTMAX_BITS
    found[masked] = 0
    return found


def log2_fixed(values: Integers) -> Integers:
    """⌊log2⌋ of positive integers below 2^31 with 15 fraction bits, found by squaring the mantissa bit by bit."""
    whole = _bit_length(values) - 1
    mantissa = values << (30 - whole)
    found = whole
    for _ in range(SOFTMAX_BITS):
        mantissa = (mantissa * mantissa) >> 30
        carry = mantissa >> 31
        found = (found << 1) | carry
        mantissa >>= carry
    return found


def interpolated(points: Integers, x: NDArray[np.int16]) -> Integers:
    """Between the two of 513 `points` that lie around each INT16 element; rounds half up (TOSA 1.0 TABLE, RESCALE)."""
    index, fraction = (x.astype(np.int64) + 2**15) >> 7, x.astype(np.int64) & 127
    base = points[index]
    return (base * 128 + (points[index + 1] - base) * fraction + 64) >> 7


def normalise(x: Integers, epsilon: int) -> Integers:
    """(x − mean) / √(variance + epsilon / n²) over the last axis of n elements, with 20 fraction bits."""
    count = x.shape[-1]
    total = x.sum(axis=-1, keepdims=True)
    spread = count * (x * x).sum(axis=-1, keepdims=True) - total * total + epsilon
    reciprocal, shift = reciprocal_root(np.maximum(spread, 1))
    centred = count * x - total
    scaled = (centred * reciprocal + np.left_shift(np.int64(1), shift - 1)) >> shift
    return np.where(spread > 0, scaled, 0)


def reciprocal_root(values: Integers) -> tuple[Integers, Integers]:
    """(I, s) with I / 2^s ≈ 2^20 / √value for 1 <= value < 2^63, to 29 bits; I <= 2^31 and 11 <= s <= 42."""
    exponent = (_RADICAND_BITS - _bit_length(values)) >> 1
    even = np.where(exponent >= 0, values << np.maximum(2 * exponent, 0), values >> 2)
    root = _integer_root(even)
    return (np.int64(1 << _ROOT_BITS) + (root >> 1)) // root, _ROOT_BITS - NORM_BITS - exponent


def _bit_length(values: Integers) -> Integers:
    """Bits of positive integers; float64 may round up to the next power of two, which is seen and undone."""
    bits = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    return bits - ((values >> (bits - 1)) == 0)


def _integer_root(values: Integers) -> Integers:
    """⌊√value⌋ below 2^62: the float64 root is off by at most one."""
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    root -= root * root > values
    return root + ((root + 1) * (root + 1) <= values)


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the outputs of one axis of a RESIZE lie in the input: at `low`, `fraction` of `whole` towards `high`."""

    low: Integers
    high: Integers
    fraction: Integers
    whole: int

    @classmethod
    def of(cls, first: int, count: int, scale: tuple[int, int, int], size: int) -> Axis:
        """Outputs [first, first + count) for `scale` = (numerator, denominator, offset) on a map of `size`."""
        numerator, denominator, offset = scale
        position = np.arange(first, first + count, dtype=np.int64) * denominator + offset
        index, fraction = position // numerator, position % numerator
        return cls(np.clip(index, 0, size - 1), np.clip(index + 1, 0, size - 1), fraction, numerator)

    @property
    def nearest(self) -> Integers:
        return np.where(self.fraction * 2 >= self.whole, self.high, self.low)

    def shifted(self, start: int) -> Axis:
        """The same with indices counted from `start`."""
        return Axis(self.low - start, self.high - start, self.fraction, self.whole)


def bilinear(x: NDArray[Any], rows: Axis, cols: Axis) -> NDArray[Any]:
    """Weighted sums of four neighbours, axes 1 and 2 of `x`; the weights add up to rows.whole × cols.whole."""
    down, right = rows.fraction[:, None, None].astype(x.dtype), cols.fraction[:, None].astype(x.dtype)
    lines = x[:, rows.low] * (rows.whole - down) + x[:, rows.high] * down
    return lines[:, :, cols.low] * (cols.whole - right) + lines[:, :, cols.high] * right
