"""BF16 arithmetic: float32 operations in a defined order, one rounding to BF16 at the end.

Products of two BF16 values are exact in float32 (16 of 24 bits) unless they leave its range. Sums start at +0 and
take one product after the other, so their value depends neither on tiles nor on the number of runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .elements import LIMITS, bits_float, rounded_to_bf16
from .isa import DType

_LARGEST_INTEGER = float(2**24)  # beyond every integer type that conversions reach


@dataclass(frozen=True, slots=True)
class FloatStage:
    """An output stage: v + bias, clamped to [low, high], rounded to BF16. `bias` has one entry or one per channel."""

    bias: NDArray[np.float32]
    low: float
    high: float

    @classmethod
    def of(cls, f: Mapping[str, int], prefix: str = "act", bias: NDArray[np.float32] | None = None) -> FloatStage:
        """The stage that the fields `act_min` and `act_max` of an instruction describe."""
        zero = np.zeros(1, np.float32) if bias is None else bias
        return cls(zero, bits_float(f[f"{prefix}_min"]), bits_float(f[f"{prefix}_max"]))

    @property
    def storage(self) -> DTypeLike:
        """NumPy type of the results: float32 that are BF16 values."""
        return np.float32

    def apply(self, values: NDArray[Any], bound: int = 0) -> NDArray[np.float32]:
        """`values` are float32; `bound` is only of interest to integer stages."""
        with np.errstate(over="ignore", invalid="ignore"):
            total = values + self.bias
            return rounded_to_bf16(np.minimum(np.maximum(total, np.float32(self.low)), np.float32(self.high)))


def ordered_product(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """a @ b for (m, k) and (k, n), every sum over k in ascending order with float32 roundings in between."""
    if b.shape[1] < len(a):  # the inner loop runs over the longer side
        return ordered_product(b.T, a.T).T
    total = np.zeros((len(a), b.shape[1]), np.float32)
    product = np.empty_like(total)
    columns = np.ascontiguousarray(a.T)
    with np.errstate(over="ignore", invalid="ignore"):
        for column, row in zip(columns, b, strict=True):
            np.multiply(column[:, None], row, out=product)
            np.add(total, product, out=total)
    return total


def to_float(values: NDArray[Any], zero_point: int, scale: float) -> NDArray[np.float32]:
    """(x − zero point) × scale in float32, for integers below 2^24."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def to_integer(values: NDArray[np.float32], scale: float, f: Mapping[str, int]) -> NDArray[Any]:
    """Nearest integers, ties to even, of float32 x × scale, plus zero point, clamped; NaN counts as 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(values * np.float32(scale))
    whole = (
        np.clip(
            np.nan_to_num(scaled, nan=0.0, posinf=np.inf, neginf=-np.inf), -_LARGEST_INTEGER, _LARGEST_INTEGER
        ).astype(np.int64)
        + f["out_zp"]
    )
    assert f["out_type"] in LIMITS
    return np.clip(whole, f["act_min"], f["act_max"]).astype(np.int8 if f["out_type"] == DType.INT8 else np.int16)
