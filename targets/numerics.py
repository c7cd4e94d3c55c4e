"""TOSA 1.0 integer arithmetic on arrays: RESCALE with scale32 and single rounding, saturating clamps.

RESCALE is evaluated in float64 wherever that is provably exact, since int64 products are several times
slower in NumPy. With v × multiplier × 2^−shift = y, a multiple of 2^−shift, float64 (53 bits) is exact

* everywhere, when |v| × multiplier + 2^(shift−1) < 2^53;
* for |y| < 512 when shift <= 43 (for |y| < 2^17 when shift <= 35); beyond that y saturates every int8 (int16)
  whatever its last bits are, and rounding to float64 is monotone, so it stays beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..common.errors import ProgramFault
from .isa import DType

_INT32_MAX = 2**31 - 1
_EXACT_BITS = 53
_EXACT_SHIFT = {DType.INT8: 43, DType.INT16: 35}
_NUMPY = {DType.INT8: np.int8, DType.INT16: np.int16}
INT48_MAX = 2**47 - 1
MIN_SHIFT, MAX_SHIFT = 2, 62
STAGE_FIELDS = ("out_zp", "act_min", "act_max", "out_type")


@dataclass(frozen=True, slots=True)
class Stage:
    """An output stage: (v + bias) rescaled, plus zero point, clamped to [low, high] within the range of `dtype`.

    `bias`, `multiplier` and `shift` are int64 arrays of one entry or one per channel (the last axis).
    `accumulator_max` is what v + bias may reach: int32, or 48 bits with multipliers below 2^15.
    """

    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    zero_point: int
    low: int
    high: int
    dtype: DType = DType.INT8
    accumulator_max: int = _INT32_MAX

    @classmethod
    def of(
        cls, multiplier: int, shift: int, zero_point: int, low: int, high: int, dtype: int = 0,
        *, accumulator_max: int = _INT32_MAX,
    ) -> Stage:  # fmt: skip
        """A stage without bias and with one scale for all channels."""
        scales = np.array([multiplier]), np.array([shift])
        return cls(np.zeros(1, np.int64), *scales, zero_point, low, high, DType(dtype), accumulator_max)

    @property
    def storage(self) -> DTypeLike:
        """NumPy type of the results."""
        return _NUMPY[self.dtype]

    def apply(self, values: NDArray[Any], bound: int) -> NDArray[Any]:
        """`values` are integers (stored as integers or floats) of magnitude at most `bound`, bias not included.

        Raises `ProgramFault` when v + bias leaves the accumulator or the rescaled value int32.
        """
        bound += int(np.abs(self.bias).max())
        if bound > self.accumulator_max:
            bound = check_accumulators(values.astype(np.int64) + self.bias, self.accumulator_max)
        if self._is_exact_in_float64(bound):
            return self._apply_float64(values)
        scaled = rescale(values.astype(np.int64) + self.bias, self.multiplier, self.shift)
        return np.clip(scaled + self.zero_point, self.low, self.high).astype(_NUMPY[self.dtype])

    def _is_exact_in_float64(self, bound: int) -> bool:
        multiplier, shift = int(self.multiplier.max()), int(self.shift.max())
        if bound * multiplier >> int(self.shift.min()) >= _INT32_MAX:
            return False  # the slow path knows whether the result overflows
        return shift <= _EXACT_SHIFT[self.dtype] or bound * multiplier + (1 << (shift - 1)) < 1 << _EXACT_BITS

    def _apply_float64(self, values: NDArray[Any]) -> NDArray[Any]:
        scaled = values + self.bias.astype(np.float64)
        scaled *= np.ldexp(self.multiplier.astype(np.float64), -self.shift.astype(np.int32))
        scaled += 0.5 + self.zero_point
        np.floor(scaled, out=scaled)
        np.minimum(scaled, self.high, out=scaled)
        np.maximum(scaled, self.low, out=scaled)
        return scaled.astype(_NUMPY[self.dtype])


def check_accumulators(sums: NDArray[np.int64], largest: int) -> int:
    """Their largest magnitude; `ProgramFault` when one lies outside of [−largest − 1, largest]."""
    low, high = int(sums.min()), int(sums.max())
    if not -largest - 1 <= low <= high <= largest:
        bits = (largest + 1).bit_length()
        raise ProgramFault(f"an int{bits} accumulator overflows: it reaches {low if low < -high else high}")
    return max(-low, high)


def rescale(
    values: NDArray[np.int64], multiplier: NDArray[np.int64] | int, shift: NDArray[np.int64] | int
) -> NDArray[np.int64]:
    """(v × multiplier + 2^(shift−1)) >> shift for values and multipliers of 62 bits together.

    Raises `ProgramFault` when a result leaves int32.
    """
    rounding = np.left_shift(np.int64(1), np.subtract(shift, 1, dtype=np.int64))
    scaled = (values * np.int64(1) * multiplier + rounding) >> shift
    if scaled.size and not -_INT32_MAX - 1 <= scaled.min() <= scaled.max() <= _INT32_MAX:
        raise ProgramFault(f"RESCALE overflows int32: {int(scaled.min())}..{int(scaled.max())}")
    return scaled


def rescale_elements(values: NDArray[Any], zero_point: int, multiplier: int, shift: int) -> NDArray[np.int64]:
    """RESCALE of (x − zero_point), for int8 by a table of the 256 possible inputs."""
    if values.dtype != np.int8:
        return rescale(values.astype(np.int64) - zero_point, multiplier, shift)
    inputs = np.arange(-128, 128)
    try:
        table = rescale(inputs - zero_point, multiplier, shift)
    except ProgramFault:  # some possible input overflows; whether an actual one does decides
        return rescale(values.astype(np.int64) - zero_point, multiplier, shift)
    return np.roll(table, -128)[values.view(np.uint8)]


def requantise_elements(values: NDArray[Any], zero_point: int, stage: Stage) -> NDArray[Any]:
    """The stage applied to (x − zero_point), for int8 by a table of the 256 possible inputs."""
    if values.dtype != np.int8:
        return stage.apply(values.astype(np.int64) - zero_point, 2**15)
    inputs = np.arange(-128, 128)
    try:
        table = stage.apply(inputs - zero_point, 255)
    except ProgramFault:
        return stage.apply(values.astype(np.int64) - zero_point, 255)
    return np.roll(table, -128)[values.view(np.uint8)]


def check_scales(multiplier: NDArray[np.int64], shift: NDArray[np.int64], first_channel: int) -> None:
    """Raises `ProgramFault` naming the first channel whose RESCALE operands have no meaning."""
    wrong = (multiplier <= 0) | (shift < MIN_SHIFT) | (shift > MAX_SHIFT)
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ProgramFault(
            f"channel {first_channel + k} has RESCALE multiplier {multiplier[k]} and shift {shift[k]}",
            hint="the multiplier must be positive and the shift within 2..62; were the weights loaded?",
        )
