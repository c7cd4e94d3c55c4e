"""Fewer points that look the same: of all that fall on one spot of the picture, the first stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 3000  # of one cloud: a few hundred kB in the page, and nothing that an eye would miss


def thin(
    x: Sequence[float], y: Sequence[float], keep: Sequence[int] = (), *, most: int = MAX_POINTS
) -> NDArray[np.int64]:
    """Positions of at most about `most` points, ascending, those of `keep` always among them.

    The plane is divided into cells, coarser until few enough of them are occupied.
    """
    count = len(x)
    if count <= most:
        return np.arange(count)
    scaled = np.column_stack([_unit(np.asarray(x, float)), _unit(np.asarray(y, float))])
    cells = 4 * most
    while True:
        rows = max(int(np.sqrt(cells)), 1)
        _, first = np.unique((scaled * rows).astype(np.int64), axis=0, return_index=True)
        if len(first) <= most:
            return np.union1d(first, np.asarray(keep, np.int64))
        cells //= 2


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the positions 0 to `count`, evenly, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)) if count else np.arange(0)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, span = values.min(), np.ptp(values)
    return (values - low) / span * (1 - 1e-9) if span > 0 else np.zeros_like(values)
