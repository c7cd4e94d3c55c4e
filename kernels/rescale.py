"""Real scales as TOSA RESCALE operands: (v × multiplier + 2^(shift−1)) >> shift (TOSA 1.0, §1.8 integer scaling)."""

from __future__ import annotations

import math

from ..common.errors import UnsupportedError

# Both operands of an addition are brought to a common scale with so many fraction bits, by their element type.
ADD_HEADROOM_BITS = {"int8": 20, "int16": 15}


def rescale_operands(scale: float, bits: int = 31) -> tuple[int, int]:
    """Multiplier in [2^(bits − 1), 2^bits) and shift in [2, 62] with multiplier / 2^shift ≈ `scale`.

    Scales too small for shift 62 lose multiplier bits; scales of 2^(bits − 2) and above raise `UnsupportedError`.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise UnsupportedError(f"a quantisation scale must be positive and finite, got {scale}")
    mantissa, exponent = math.frexp(scale)
    multiplier, shift = round(mantissa * 2**bits), bits - exponent
    if multiplier == 2**bits:
        multiplier, shift = multiplier // 2, shift - 1
    if shift > 62:
        multiplier, shift = multiplier >> min(bits, shift - 62), 62
    if multiplier == 0:
        raise UnsupportedError(f"scale {scale:g} is too small for a RESCALE")
    if shift < 2:
        raise UnsupportedError(f"scale {scale:g} is too large for a RESCALE (shift {shift} < 2)")
    return multiplier, shift


def conv_operands(scale: float, dtype: str) -> tuple[int, int]:
    """RESCALE operands behind a sum of products: accumulators of int16 maps have 48 bits, multipliers 15 (scale16)."""
    return rescale_operands(scale, 15 if dtype == "int16" else 31)


def add_operands(
    scale_a: float, scale_b: float, scale_out: float, dtype: str = "int8"
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """RESCALE operands of both inputs and of the sum of an integer addition (TOSA 1.0 ADD on rescaled int32)."""
    twice = 2 * max(scale_a, scale_b)
    unit = 2.0 ** ADD_HEADROOM_BITS[dtype]
    return (
        rescale_operands(scale_a / twice * unit),
        rescale_operands(scale_b / twice * unit),
        rescale_operands(twice / (unit * scale_out)),
    )
