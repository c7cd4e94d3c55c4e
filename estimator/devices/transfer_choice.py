"""Which networks to measure on a device of which nothing is known: a design without any latency of it.

Two things make a prediction wrong: operator times that the samples leave open, and a reading of graphs (which dead
operators are executed) that is not the device's. Both are squared errors, so their sum is made small, one network
after the other: the posterior variance of all candidates under every reading, and for each pair of readings their
difference times a bound on the probability of taking one for the other, exp(−Bhattacharyya distance) (Kailath, IEEE
Trans. Commun. Technol. 15, 1967, eq. 19 and table I). Both follow from the prior covariances in closed form.

Known devices are left out on purpose: one of another kind makes networks look alike that are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...common.errors import EstimatorError
from .graph_arrays import GraphCounts
from .graph_table import Array
from .transfer_prior import Prior, reading_odds

_NOISE = 0.1  # of a measurement, in parts of the candidates' deviation
_MISREADING = 0.3  # weight of readings beside operator times


@dataclass(frozen=True)
class _Design:
    """Covariances of the candidates (readings, candidates, candidates) given what was chosen, and of pairs of readings
    their mean, how much their latencies differ, and how far they are told apart."""

    readings: Array
    odds: Array
    pairs: Array
    first: list[int]
    second: list[int]
    differences: Array
    distances: Array


def choose_samples(candidates: Mapping[str, Sequence[GraphCounts]], count: int) -> tuple[int, ...]:
    """Which of `candidates`, given under every reading, to measure on the new device, best first.

    Raises:
        EstimatorError: no reading, or fewer candidates than wanted samples.
    """
    size = len(next(iter(candidates.values()))) if candidates else 0
    if not 1 <= count <= size:
        raise EstimatorError(f"{count} samples cannot be chosen from {size} candidates")
    design, chosen = _design(candidates), list[int]()
    noise = _NOISE**2 * float(np.mean(np.einsum("rii->ri", design.readings)))
    for _ in range(count):
        alone, mean = (np.einsum("rii->ri", part) + noise for part in (design.readings, design.pairs))
        apart = 0.5 * np.log(mean) - 0.25 * (np.log(alone[design.first]) + np.log(alone[design.second]))
        risk = _open(design, alone) + _misread(design, design.distances[:, None] + apart)
        risk[chosen] = np.inf
        best = int(np.argmin(np.round(risk, 9)))  # equal ones by their order
        design.distances[:] += apart[:, best]
        _condition(design.readings, alone, best)
        _condition(design.pairs, mean, best)
        chosen.append(best)
    return tuple(chosen)


def _open(design: _Design, variance: Array) -> Array:
    """Mean variance of the candidates that is left once each of them was measured too (candidates,)."""
    removed = np.einsum("rij,rij->rj", design.readings, design.readings) / variance
    left = np.einsum("rii->r", design.readings)[:, None] - removed
    return design.odds @ left / left.shape[1]


def _misread(design: _Design, distance: Array) -> Array:
    """What a wrong reading would cost after each candidate, given distances (pairs, candidates)."""
    weight = np.sqrt(design.odds[design.first] * design.odds[design.second])
    return _MISREADING * (weight * design.differences) @ np.exp(-distance)


def _condition(covariance: Array, variance: Array, index: int) -> None:
    """Takes what a measurement of `index` tells out of each covariance, in place."""
    column = covariance[:, :, index].copy()
    covariance -= column[:, :, None] * column[:, None, :] / variance[:, index, None, None]


def _design(candidates: Mapping[str, Sequence[GraphCounts]]) -> _Design:
    prior = Prior.of(list(candidates.values()))
    roots = np.array([prior.roots(graphs) for graphs in candidates.values()])
    relative = roots / np.sqrt((roots**2).sum(2).mean(0))[:, None]
    covariances = relative @ relative.transpose(0, 2, 1)
    pairs = list(combinations(range(len(candidates)), 2))
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    differences = ((relative[first] - relative[second]) ** 2).sum(2).mean(1)
    odds = np.array([reading_odds(name) for name in candidates])
    means = (covariances[first] + covariances[second]) / 2
    return _Design(covariances, odds / odds.sum(), means, first, second, differences, np.zeros(len(pairs)))
