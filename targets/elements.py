"""Element types in memory: little-endian bytes to NumPy arrays that can be computed with, and back.

BF16 is computed with as float32, whose upper half it is: widening is exact, narrowing rounds to nearest even.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .isa import DType

_STORED = {
    DType.INT8: np.dtype(np.int8), DType.INT16: np.dtype("<i2"), DType.INT32: np.dtype("<i4"),
    DType.BF16: np.dtype("<u2"), DType.FP32: np.dtype("<f4"),
}  # fmt: skip
INTEGERS = frozenset({DType.INT8, DType.INT16, DType.INT32})
LIMITS = {
    DType.INT8: (-128, 127), DType.INT16: (-(2**15), 2**15 - 1), DType.INT32: (-(2**31), 2**31 - 1)
}  # fmt: skip
_INFINITY = 0x7F800000
_QUIET_NAN = 0x7FC0


def load_elements(raw: NDArray[np.int8], dtype: DType) -> NDArray[Any]:
    """The elements in `raw` (…, n × element bytes), shape (…, n): integers as stored, BF16 widened to float32."""
    if dtype is DType.INT8:
        return raw
    found = np.ascontiguousarray(raw).view(_STORED[dtype])
    return widen(found) if dtype is DType.BF16 else found


def store_elements(values: NDArray[Any], dtype: DType) -> NDArray[np.int8]:
    """The inverse: the bytes of (…, n) values, which must fit; floats become BF16 by rounding to nearest even."""
    if dtype is DType.INT8:
        return values.astype(np.int8, copy=False)
    narrow = narrowed(values.astype(np.float32, copy=False)) if dtype is DType.BF16 else values
    return np.ascontiguousarray(narrow, _STORED[dtype]).view(np.int8)


def widen(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """float32 values of BF16 bit patterns."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrowed(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """BF16 bit patterns nearest to float32 values, ties to even; every NaN becomes the quiet one of its sign."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    nan = (bits & 0x7FFFFFFF) > _INFINITY
    return np.where(nan, ((bits >> 16) & 0x8000) | _QUIET_NAN, rounded).astype(np.uint16) if nan.any() else rounded


def rounded_to_bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same values with the precision of BF16."""
    return widen(narrowed(values))


def float_bits(value: float) -> int:
    """The field of an instruction that holds `value` as float32."""
    return struct.unpack("<i", struct.pack("<f", value))[0]


def bits_float(bits: int) -> float:
    """The float32 value in a field."""
    return struct.unpack("<f", struct.pack("<i", bits))[0]


MINUS_INFINITY, PLUS_INFINITY = float_bits(float("-inf")), float_bits(float("inf"))  # act_min, act_max of no clamp
