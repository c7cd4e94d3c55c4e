"""What to measure next: the pieces that leave the least doubt about the networks that the user cares for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def choose(
    targets: Floats, candidates: Floats, measured: Floats, prior: Floats, *, noise: float, count: int
) -> list[int]:
    """Numbers of the `count` candidates that remove most of the targets' variance, best first, each at most once.

    The classic greedy design for Gaussian processes (Krause et al. 2008, "Near-optimal sensor placements"), with
    the mean variance of the targets as its aim. Values measured so far do not matter, only which they were.

    Args:
        targets: (networks, operators), each operator's share of a network's latency.
        candidates: (candidates, operators), likewise of each piece that may be measured.
        measured: (measurements, operators), likewise of what has been measured.
        prior: (operators, operators), covariance of the operators' relative deviations.
        noise: relative standard deviation of a measurement.
    """
    pool = np.vstack([measured, candidates])
    link = pool @ prior
    variance = np.einsum("co,co->c", link, pool) + noise**2
    design = _Design(link, pool, targets @ link.T, variance, noise)
    for number in range(len(measured)):
        design.condition(number)
    picks: list[int] = []
    for _ in range(min(count, len(candidates))):
        gains = design.gains()
        gains[: len(measured)] = -1.0
        gains[[len(measured) + pick for pick in picks]] = -1.0
        picks.append(int(np.argmax(gains)) - len(measured))
        design.condition(picks[-1] + len(measured))
    return picks


class _Design:
    """Covariances of the pool and the targets, updated by one rank per measurement."""

    def __init__(self, link: Floats, pool: Floats, cross: Floats, variance: Floats, noise: float) -> None:
        self._link, self._pool, self._cross, self._variance = link, pool, cross, variance
        self._noise = noise
        self._updates = np.zeros((0, len(pool)))

    def gains(self) -> Floats:
        """Variance that measuring each item of the pool would remove from the targets, summed over them."""
        return (self._cross**2).sum(0) / self._variance

    def condition(self, number: int) -> None:
        scale = np.sqrt(self._variance[number])
        column = self._link @ self._pool[number] - self._updates.T @ self._updates[:, number]
        update, target = column / scale, self._cross[:, number] / scale
        self._cross = self._cross - np.outer(target, update)
        self._variance = np.maximum(self._variance - update**2, self._noise**2)
        self._updates = np.vstack([self._updates, update])


def shares(rows: Sequence[Floats] | Floats) -> Floats:
    """Rows of latencies by operator, each divided by its sum."""
    table = np.asarray(rows, np.float64)
    return table / table.sum(1, keepdims=True)
