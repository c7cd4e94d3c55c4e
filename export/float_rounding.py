"""How far rounding may take a bf16 result from the real one; see `float_bounds.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graph import Node

Reals = NDArray[np.float64]
FLOAT32_UNIT = 2.0**-24
_BF16_UNIT = 2.0**-8
_BF16_LEAST = 2.0**-134  # half the distance of two subnormals


@dataclass(frozen=True, slots=True)
class Bounded:
    """Exact results of an operator, clamped, and the largest error that each may have."""

    values: Reals
    errors: Reals

    def worst(self, found: NDArray) -> float:
        """The largest error of `found` as a share of what it may be; above 1 the bound is broken."""
        apart = np.abs(found.astype(np.float64) - self.values)
        shares = np.divide(apart, self.errors, out=np.zeros_like(apart), where=apart > 0)
        return float(shares.max(initial=0.0))


def gamma(roundings: int) -> float:
    """Relative error of that many float32 roundings, one after the other."""
    return roundings * FLOAT32_UNIT / (1 - roundings * FLOAT32_UNIT)


def rounded(node: Node, exact: Reals, before: Reals | float) -> Bounded:
    """`exact` clamped, which brings nothing further apart; `before` is the error of what is clamped.

    The bounds of the clamp are float32, and its result is rounded to bf16.
    """
    values = np.clip(exact, *node.clamp)
    errors = before + FLOAT32_UNIT * np.abs(values)
    return Bounded(values, errors + _BF16_UNIT * (np.abs(values) + errors) + _BF16_LEAST)
