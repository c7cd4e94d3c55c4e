"""Softmax and normalisation of BF16 elements: float32 in a defined order, see the docstring of `isa`.

The exponential is the float64 one rounded to float32, so that it does not depend on the library's float32 variant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def softmax_float(logits: Floats, *, masked: bool) -> Floats:
    """Shares over the last axis; masked logits are −∞, and rows of nothing else get 0."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        largest = logits.max(axis=-1, keepdims=True)
        powers = np.exp((logits - largest).astype(np.float64)).astype(np.float32)
        if masked:
            powers = np.where(np.isneginf(logits), np.float32(0), powers)
        total = ordered_sum(powers)
        shares = powers / total
    return np.where(total == 0, np.float32(0), shares) if masked else shares


def normalise_float(x: Floats, epsilon: np.float32) -> Floats:
    """(x − mean) / √(variance + epsilon) over the last axis."""
    count = np.float32(x.shape[-1])
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        centred = x - ordered_sum(x) / count
        return centred / np.sqrt(ordered_sum(centred * centred) / count + epsilon)


def ordered_sum(x: Floats) -> Floats:
    """Sums over the last axis in ascending order from +0 on, the axis kept."""
    return np.add.accumulate(x, axis=-1, dtype=np.float32)[..., -1:] + np.float32(0)
