"""Real functions as the integer tables and records that the vector unit reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from ..targets.table_float import BINADES, LAST_EXPONENT, TABLE_SIDE, FloatTable, table_inputs
from .function_ops import Norm
from .rescale import rescale_operands

_POWER_BITS = 15
_LARGEST_POWER = 2**15 - 1
_NORM_BITS = 20  # fraction bits of a normalised element
_OUTPUT_BITS = 8  # fraction bits of the output when the bias is added
_INT32_MAX = 2**31 - 1
_EPSILON_LIMIT = 2**62
_BIAS = 127  # of the exponent of bf16
_ENDING = 1 / 16  # share of the last element over which the slope beyond a table is taken


Function = Callable[[NDArray[np.float64]], NDArray[np.floating[Any]]]


@dataclass(frozen=True, slots=True)
class Exponentials:
    """e^(−256·i·scale) and e^(−i·scale) for i < 256 as int16 with 15 fraction bits; 1 becomes 1 − 2^−15."""

    coarse: NDArray[np.int16]
    fine: NDArray[np.int16]

    @classmethod
    def of(cls, scale: float) -> Exponentials:
        """For logits with that scale."""
        steps = np.arange(256, dtype=np.float64) * scale
        coarse, fine = (
            np.minimum(np.rint(np.exp(-s) * 2.0**_POWER_BITS), _LARGEST_POWER) for s in (256 * steps, steps)
        )
        return cls(coarse.astype(np.int16), fine.astype(np.int16))

    def as_bytes(self) -> bytes:
        return np.concatenate([self.coarse, self.fine]).astype("<i2").tobytes()


@dataclass(frozen=True, slots=True)
class NormRecords:
    """Scale and offset of each channel: from 20 fraction bits to the output with 8, and the offset with 8."""

    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]

    def as_bytes(self) -> bytes:
        return np.stack([self.bias, self.multiplier, self.shift], axis=1).astype("<i4").tobytes()


def norm_records(op: Norm, gamma: NDArray[np.float64], beta: NDArray[np.float64], scale: float) -> NormRecords:
    """For outputs of `scale`. Raises `UnsupportedError` where a result could leave int32: it would saturate anyway."""
    bias = np.rint(beta / scale * 2**_OUTPUT_BITS)
    reach = np.abs(gamma) / scale * 2**_OUTPUT_BITS * math.sqrt(op.count) + np.abs(bias)
    if not np.all(reach < _INT32_MAX):
        raise UnsupportedError(f"a normalisation to scale {scale:g} may reach {reach.max():g}, beyond int32")
    pairs = np.array([_signed_rescale(float(g) / scale * 2.0 ** (_OUTPUT_BITS - _NORM_BITS)) for g in gamma], np.int64)
    return NormRecords(bias.astype(np.int64), pairs[:, 0], pairs[:, 1])


def _signed_rescale(scale: float) -> tuple[int, int]:
    """RESCALE operands whose multiplier carries the sign; factors that no result could show are 0."""
    if abs(scale) < 2.0**-60:
        return 0, 2
    multiplier, shift = rescale_operands(abs(scale))
    return int(math.copysign(multiplier, scale)), shift


def norm_epsilon(op: Norm, epsilon: float, scale: float) -> int:
    """ε in units of n² × the scale of the input squared, as the integer radicand n·Σx² − (Σx)² wants it."""
    value = op.count**2 * epsilon / scale**2
    if not 0 <= value < _EPSILON_LIMIT:
        raise UnsupportedError(f"epsilon {epsilon:g} on a scale of {scale:g} is beyond the integers of a normalisation")
    return round(value)


def unary_table(
    function: Function,
    source: tuple[float, int],
    target: tuple[float, int],
) -> NDArray[np.int8]:
    """int8 results by stored int8 input; (scale, zero point) of both. Rounds half to even and saturates."""
    real = np.asarray((np.arange(-128, 128) - source[1]) * source[0], np.float64)
    with np.errstate(over="ignore"):
        found = np.rint(function(real) / target[0]) + target[1]
    if np.isnan(found).any():
        raise UnsupportedError("the function has no value somewhere in the range of its input")
    return np.clip(found, -128, 127).astype(np.int8)


def int16_table(function: Function, source: float, target: float) -> NDArray[np.int16]:
    """int16 results at every 128th stored int16 input from −2^15 to 2^15; scales of both.

    Raises `UnsupportedError` where the function has no value, or where neighbours are 2^15 apart (as TOSA's are not).
    """
    with np.errstate(over="ignore"):
        found = np.rint(function(np.arange(-(2.0**15), 2**15 + 1, 128) * source) / target)
    if np.isnan(found).any():
        raise UnsupportedError("the function has no value somewhere in the range of its input")
    values = np.clip(found, -(2**15), 2**15 - 1)
    if np.abs(np.diff(values)).max() >= 2**15:
        raise UnsupportedError("the function rises or falls by half of the int16 range between two points of its table")
    return values.astype(np.int16)


def int16_points(values: NDArray[np.int16]) -> bytes:
    """What TABLE finds in SRAM, padded to whole words of 32 bits."""
    return values.astype("<i2").tobytes().ljust(4 * math.ceil(values.nbytes / 4), b"\0")


def float_table(function: Function, reach: float) -> FloatTable:
    """bf16 results for magnitudes from 2^−15 of the power of two above `reach`, twice the largest expected, on.

    Where the function has no value, the result is NaN; so it is beyond the table on that side.
    """
    last = math.frexp(max(2 * reach, 2.0**-126))[1]
    exponent = min(max(last - BINADES + _BIAS, 1), LAST_EXPONENT)
    inputs = table_inputs(exponent).astype(np.float64)
    with np.errstate(all="ignore"):
        results = np.asarray(function(inputs), np.float64)
        lines = [_through_zero(inputs[0], results[0], results[TABLE_SIDE])]
        lines += [_onwards(function, inputs[end], results[end]) for end in (TABLE_SIDE - 1, -1)]
        return FloatTable(exponent, np.array(lines, np.float32), results.astype(np.float32))


def _through_zero(least: float, above: float, below: float) -> tuple[float, float]:
    """Offset and slope between the elements nearest to 0; a function with one side only stays at its value there."""
    if math.isfinite(above) and math.isfinite(below):
        return (above + below) / 2, (above - below) / (2 * least)
    return (above if math.isfinite(above) else below), 0.0


def _onwards(function: Function, end: float, value: float) -> tuple[float, float]:
    """Offset and slope behind the last element; a function without a finite slope stays at its last value."""
    before = float(np.asarray(function(np.array([end * (1 - _ENDING)])))[0])
    slope = (value - before) / (end * _ENDING)
    return (value - slope * end, slope) if math.isfinite(slope) else (value, 0.0)
