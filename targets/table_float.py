"""TABLE of BF16 elements: any function, exact to the last bit over 16 binades, and three straight lines elsewhere.

BF16 has 128 numbers to a binade, so that a table of 2 × 16 × 128 entries holds the result of every element with
2^e <= |x| < 2^(e + 16). Nearer to zero, and beyond on either side, the result is offset + slope × x in float32, two
roundings; infinite elements count there as the largest finite ones. NaN gives NaN.

At table_addr lie, in words of 16 bits: the biased exponent e + 127 and a zero, six float32 (offset and slope near
zero, beyond on the positive side, beyond on the negative side), then BF16 results by |x| for positive and then for
negative elements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ProgramFault
from .elements import narrowed, widen

BINADES = 16
TABLE_SIDE = BINADES * 128  # entries of one sign
_HEADER = 14
TABLE_WORDS = _HEADER + 2 * TABLE_SIDE
LAST_EXPONENT = 255 - BINADES  # the binades may end where infinity begins
_SIGN, _INFINITY = 0x8000, 0x7F80
Line = tuple[float, float]


@dataclass(frozen=True, slots=True)
class FloatTable:
    """`exponent` is that of the first binade, biased; `lines` are (offset, slope) near zero, above and below."""

    exponent: int
    lines: NDArray[np.float32]
    results: NDArray[np.float32]

    @classmethod
    def of(cls, words: NDArray[np.uint16]) -> FloatTable:
        """From memory; `ProgramFault` for binades that BF16 does not have."""
        if not 1 <= words[0] <= LAST_EXPONENT:
            raise ProgramFault(f"a TABLE of BF16 begins at exponent {words[0]}, not within 1..{LAST_EXPONENT}")
        lines = np.ascontiguousarray(words[2:_HEADER]).view("<f4").reshape(3, 2)
        return cls(int(words[0]), lines, widen(words[_HEADER:]))

    def as_bytes(self) -> bytes:
        """What `of` reads."""
        head = np.array([self.exponent, 0], "<u2").tobytes() + self.lines.astype("<f4").tobytes()
        return head + narrowed(self.results).astype("<u2").tobytes()

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The function at BF16 values, in float32 where they lie on a line."""
        bits = narrowed(x)
        magnitude, negative = (bits & ~np.uint16(_SIGN)).astype(np.int64), bits >= _SIGN
        index = magnitude - 128 * self.exponent
        inside = (index >= 0) & (index < TABLE_SIDE)
        found = self.results[np.where(inside, index, 0) + TABLE_SIDE * negative]
        line = np.where(index < 0, 0, 1 + negative)
        finite = widen(np.where(magnitude == _INFINITY, bits - 1, bits).astype(np.uint16))
        with np.errstate(over="ignore", invalid="ignore"):
            straight = self.lines[line, 0] + self.lines[line, 1] * finite
        return np.where(inside, found, straight)


def table_inputs(exponent: int) -> NDArray[np.float32]:
    """The elements whose results a table from biased `exponent` on holds, in its order."""
    bits = np.arange(TABLE_SIDE, dtype=np.uint16) + np.uint16(128 * exponent)
    return widen(np.concatenate([bits, bits | np.uint16(_SIGN)]))
