"""Which proxies to trust in a space, learned from a handful of trained networks, if they say enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.errors import InputError
from .base import Scores
from .combine import rank_columns
from .selfcheck import spearman

LEAST_LABELS = 8  # below, leave-one-out says nothing
CONFIDENCE = 0.95  # share of resamplings in which learned weights must beat the default's
_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of leaving the default's weights, for each label
_RESAMPLINGS = 400

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Combination:
    """Weights of proxies for `rank_scores`, adding up to 1, and where they come from.

    `spearman_default` and `spearman_learned` are rank correlations with the labels; the learned one is by leaving
    out each label in turn, so the two can be compared. NaN where too few labels were given.
    """

    weights: Mapping[str, float]
    learned: bool
    reason: str
    spearman_default: float = math.nan
    spearman_learned: float = math.nan


def pick_combination(
    scores: Sequence[Scores], labels: Sequence[float], default: Sequence[str], *, seed: int = 0
) -> Combination:
    """Weights for the proxies in `scores` from trained labels, or the default's equal weights.

    Non-negative least squares of the labels' ranks on the log-ranks of the scores, pulled towards the default by
    a ridge whose strength leave-one-out chooses. The learned weights are taken only where they order the left-out
    labels better than the default does in 95 % of resamplings; so with few or noisy labels the default stays.

    Raises:
        InputError: scores and labels of different lengths, or a label that is not finite.
    """
    if len(scores) != len(labels) or not all(map(math.isfinite, labels)):
        problem = f"{len(scores)} scores and {len(labels)} labels, which must be as many and finite"
        raise InputError(problem, hint="leave out networks whose training failed")
    equal = {name: 1 / len(default) for name in default}
    if len(scores) < LEAST_LABELS:
        return Combination(equal, False, f"{len(scores)} labels are fewer than {LEAST_LABELS}: default weights")
    names = sorted(scores[0])
    columns, truth = rank_columns(scores, names), rank_columns([{"label": v} for v in labels], ["label"])[:, 0]
    prior = np.array([equal.get(name, 0.0) for name in names])
    return _decide(names, columns, truth, prior, np.random.default_rng(seed))


def _decide(
    names: list[str], columns: Floats, truth: Floats, prior: Floats, random: np.random.Generator
) -> Combination:
    tried = [_left_out(columns, truth, prior, penalty) for penalty in _PENALTIES]
    quality = [spearman(guess, truth) for guess in tried]
    best = int(np.nanargmax(quality)) if not all(map(math.isnan, quality)) else len(quality) - 1
    standard = columns @ prior
    sure = _share_better(tried[best], standard, truth, random)
    before, after = spearman(standard, truth), quality[best]
    learned = sure >= CONFIDENCE
    weights = _fit(columns, truth, prior, _PENALTIES[best]) if learned else prior
    verdict = "learned weights" if learned else "default weights"
    reason = f"better than the default in {sure:.0%} of resamplings of {len(truth)} labels: {verdict}"
    found = {name: float(w) for name, w in zip(names, weights / weights.sum(), strict=True) if w > 0}
    return Combination(found, learned, reason, before, after)


def _fit(columns: Floats, truth: Floats, prior: Floats, penalty: float) -> Floats:
    """Non-negative weights; columns and truth are centred, so that no intercept is needed."""
    from scipy.optimize import nnls

    scale = float(np.std(truth)) / max(float(np.std(columns @ prior)), 1e-12)
    pull = math.sqrt(penalty * len(truth))
    left = np.vstack([columns - columns.mean(0), pull * np.eye(len(prior))])
    right = np.concatenate([truth - truth.mean(), pull * scale * prior])
    found, _ = nnls(left, right)
    return found if found.sum() > 0 else prior


def _left_out(columns: Floats, truth: Floats, prior: Floats, penalty: float) -> Floats:
    """What weights fitted to all other labels say of each network, in units that do not depend on the fold."""
    guesses = np.empty(len(truth))
    for index in range(len(truth)):
        kept = np.arange(len(truth)) != index
        weights = _fit(columns[kept], truth[kept], prior, penalty)
        guesses[index] = (columns[index] - columns[kept].mean(0)) @ (weights / weights.sum())
    return guesses


def _share_better(guess: Floats, standard: Floats, truth: Floats, random: np.random.Generator) -> float:
    """How often `guess` beats `standard` when networks are drawn with replacement."""
    rows = random.integers(len(truth), size=(_RESAMPLINGS, len(truth)))
    mine, theirs = (_row_correlations(values[rows], truth[rows]) for values in (guess, standard))
    return float(np.mean(mine > theirs))


def _row_correlations(a: Floats, b: Floats) -> Floats:
    """Spearman of each row of one with the same row of the other; NaN, which beats nothing, where one is constant."""
    from scipy.stats import rankdata

    left, right = (rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (a, b))
    with np.errstate(invalid="ignore"):
        return (left * right).sum(1) / np.sqrt((left**2).sum(1) * (right**2).sum(1))
