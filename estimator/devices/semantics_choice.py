"""Which reading of graphs a device follows, by how well measured networks can be explained with each.

A reading is a name for what is executed: semantics of dead operators, identities kept or not. The wrong one misplaces
half of the predictions on NAS-Bench-201, so a sample of the measured networks settles it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ...common.errors import EstimatorError
from .graph_arrays import GraphCounts
from .network_model import explaining_error

Reader: TypeAlias = Callable[[int, str], GraphCounts]
"""(index of a measured network, reading) → what is executed under that reading."""

_SAMPLE = 200  # networks looked at
_CLOSE = 1.5  # a sum whose error is within this factor of the least deserves a fit of surroundings too


def choose_reading(
    readings: Sequence[str], read: Reader, latency: ArrayLike, *, seed: int = 0, sample: int = _SAMPLE
) -> tuple[str, dict[str, float]]:
    """The reading of least error, and the mean absolute log error of left-out networks for each that was tried.

    Of readings under which all networks are the same, the first alone is tried.

    Raises:
        EstimatorError: no readings, or too few networks.
    """
    measured = np.asarray(latency, np.float64)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(measured))[:sample])
    candidates: dict[str, list[GraphCounts]] = {}
    for reading in readings:
        graphs = [read(int(index), reading) for index in chosen]
        if graphs not in candidates.values():
            candidates[reading] = graphs
    if not candidates:
        raise EstimatorError("there are no readings to choose from")
    if len(candidates) == 1:
        return next(iter(candidates)), {}
    sums = {name: explaining_error(graphs, measured[chosen], structure=False) for name, graphs in candidates.items()}
    close = [name for name, error in sums.items() if error <= _CLOSE * min(sums.values())]
    errors = {name: explaining_error(candidates[name], measured[chosen]) for name in close}
    return min(errors, key=errors.__getitem__), errors
