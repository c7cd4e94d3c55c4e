"""`zero-shot`: ranks untrained networks and trains none."""

from __future__ import annotations

import math
from statistics import fmean, pstdev

from ...models.architecture import Architecture
from ..proxies import rank_scores, size_warnings
from ..results import distinct
from ..seeds import Stream, seed_for
from ..session import Assess, Assessment, Session
from ..study import Handle
from .base import Outcome
from .ranking import ranked

CALIBRATION = 12  # random architectures that give every score its unit
WORST_Z = -10.0  # a degenerate network, and no score counts for more than this either way

Units = dict[str, tuple[float, float]]


class ZeroShotStrategy:
    """The sampler climbs a sum of standardised scores; the cohort of all feasible trials is then ranked.

    Ranks are relative to a cohort, and a sampler needs values that stay, hence two scales: scores are
    standardised by a few random architectures before the first trial, and ranked after the last one.
    """

    name = "zero-shot"
    trains = False
    sampler = None
    summary = "rank untrained candidates by trainability scores"

    def run(self, session: Session) -> Outcome:
        cohort = [record for record in distinct(session.explore(assess_by_scores(session))) if record.feasible]
        ranking = ranked(cohort, rank_scores([record.scores for record in cohort]))
        warnings = size_warnings([record.scores for record in cohort], [r.cost.macs for r in cohort if r.cost])
        return Outcome(tuple(session.finalists(ranking)), tuple(warnings))


def assess_by_scores(session: Session) -> Assess:
    """Scores a candidate; its value is the mean of its scores in units of a few random architectures."""
    units: Units = session.note("score-units", lambda: _score_units(session))

    def assess(architecture: Architecture, handle: Handle) -> Assessment:
        scores = session.scores(architecture)
        return Assessment(_standardised(scores, units), scores)

    return assess


def _score_units(session: Session) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of every score over a few random architectures, whatever they cost."""
    seeds = (seed_for(session.seed, Stream.CALIBRATION, i) for i in range(CALIBRATION))
    sampled = [session.scores(session.bench.space.sample(seed)) for seed in seeds]
    units = {}
    for name in sampled[0]:
        values = [scores[name] for scores in sampled if math.isfinite(scores[name])] or [0.0]
        units[name] = (fmean(values), pstdev(values) or 1.0)
    return units


def _standardised(scores: dict[str, float], units: Units) -> float:
    def standard(name: str) -> float:
        mean, deviation = units[name]
        z = (scores[name] - mean) / deviation
        return WORST_Z if math.isnan(z) else min(max(z, WORST_Z), -WORST_Z)

    return fmean(standard(name) for name in sorted(scores))


ZERO_SHOT = ZeroShotStrategy()
