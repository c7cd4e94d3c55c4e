"""From the outputs of a package to named classes with scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .host import Arrays


@dataclass(frozen=True, slots=True)
class ClassScore:
    """`score` is the softmax of the model's output: in 0..1, but no calibrated probability."""

    name: str
    score: float


def top_classes(outputs: Arrays, names: Sequence[str], count: int) -> list[list[ClassScore]]:
    """The `count` best classes of each sample, best first; nothing unless the only output is (samples, classes).

    Classes without a name are numbered.
    """
    arrays = list(outputs.values())
    if len(arrays) != 1 or arrays[0].ndim != 2 or arrays[0].shape[1] < 2:
        return []
    return [_best(softmax(row), names, count) for row in arrays[0]]


def softmax(values: NDArray) -> NDArray[np.float64]:
    """Shares that add up to 1, larger for larger values."""
    powers = np.exp(values.astype(np.float64) - values.max())
    return powers / powers.sum()


def _best(shares: NDArray[np.float64], names: Sequence[str], count: int) -> list[ClassScore]:
    order = np.argsort(-shares, kind="stable")[:count]
    return [ClassScore(str(names[i]) if i < len(names) else str(i), float(shares[i])) for i in map(int, order)]
