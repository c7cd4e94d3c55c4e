"""Scores of several proxies as one: by rank within a cohort, or in units that stay, for a sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import numpy as np

from .base import Scores

WORST_Z = -10.0  # a degenerate network, and no score counts for more than this either way


def log_ranks(values: Sequence[float]) -> list[float]:
    """log(rank / n) of every value: 0 for the best, log(1/n) for the worst, ties share their mean rank."""
    from scipy.stats import rankdata

    if not values:
        return []
    clean = [value if not math.isnan(value) else -math.inf for value in values]
    return [float(value) for value in np.log(rankdata(clean, method="average") / len(clean))]


def rank_scores(cohort: Sequence[Scores], weights: Mapping[str, float] | None = None) -> list[float]:
    """The combined score of each member: the mean of its log-ranks over all proxies, weighted where weights are given.

    The logarithm punishes a bad rank in one proxy more than it rewards a good one in another. A member
    with a degenerate score gets that proxy's worst rank, not a tie among the degenerate ones.
    """
    if not cohort:
        return []
    share = _shares(cohort[0], weights)
    columns = rank_columns(cohort, list(share))
    return [float(value) for value in columns @ np.array(list(share.values()))]


def rank_columns(cohort: Sequence[Scores], names: Sequence[str]) -> np.ndarray:
    """Log-ranks of every member (rows) in every named score (columns)."""
    worst = -math.log(len(cohort))
    columns = [log_ranks([member[name] for member in cohort]) for name in names]
    for name, column in zip(names, columns, strict=True):
        column[:] = [v if member[name] > -math.inf else worst for v, member in zip(column, cohort, strict=True)]
    return np.array(columns, np.float64).reshape(len(names), len(cohort)).T


def _shares(scores: Scores, weights: Mapping[str, float] | None) -> dict[str, float]:
    """The part of each proxy in the sum, adding up to 1."""
    given = {name: 1.0 for name in scores} if weights is None else {n: w for n, w in weights.items() if w}
    total = sum(given.values())
    return {name: given[name] / total for name in sorted(given)}


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """Mean and deviation of every score over a few random architectures: units that do not change during a study.

    A sampler compares values over time, and ranks move whenever the cohort grows.
    """

    units: Mapping[str, tuple[float, float]]
    weights: Mapping[str, float] | None = None

    @classmethod
    def of(cls, sample: Sequence[Scores], weights: Mapping[str, float] | None = None) -> ScoreScale:
        """From the scores of random architectures, degenerate ones left out."""
        units = {}
        for name in sorted(sample[0]):
            values = [scores[name] for scores in sample if math.isfinite(scores[name])] or [0.0]
            units[name] = (fmean(values), pstdev(values) or 1.0)
        return cls(units, weights)

    def value(self, scores: Scores) -> float:
        """The weighted mean of standardised scores, each between ±10; a degenerate score is −10."""
        share = _shares(scores, self.weights)
        return sum(part * self._standard(name, scores[name]) for name, part in share.items())

    def _standard(self, name: str, score: float) -> float:
        mean, deviation = self.units[name]
        z = (score - mean) / deviation
        return WORST_Z if math.isnan(z) else min(max(z, WORST_Z), -WORST_Z)
