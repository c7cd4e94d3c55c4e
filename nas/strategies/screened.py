"""Strategies that screen untrained networks: `zero-shot` stops there, `hybrid` trains the best of the screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev

from ...models.architecture import Architecture
from ..proxies import rank_scores, size_warnings
from ..results import TrialRecord, distinct
from ..seeds import Stream, seed_for
from ..session import Assessment, Session
from ..study import Handle
from .base import Outcome

CALIBRATION = 12  # random architectures that give every score its unit
WORST_Z = -10.0  # a degenerate network, and no score counts for more than this either way
MIN_DIFFERENCE = 2  # knobs in which finalists differ: training near-twins teaches nothing

Units = dict[str, tuple[float, float]]


class ScreenedStrategy:
    """The sampler climbs a sum of standardised scores; the cohort of all feasible trials is then ranked.

    Ranks are relative to a cohort, and a sampler needs values that stay, hence two scales: scores are
    standardised by a few random architectures before the first trial, and ranked after the last one.
    """

    sampler = None

    def __init__(self, name: str, summary: str, *, trains: bool) -> None:
        self.name, self.summary, self.trains = name, summary, trains

    def run(self, session: Session) -> Outcome:
        units: Units = session.note("score-units", lambda: _score_units(session))

        def assess(architecture: Architecture, handle: Handle) -> Assessment:
            scores = session.scores(architecture)
            return Assessment(_standardised(scores, units), scores)

        cohort = [record for record in distinct(session.explore(assess)) if record.feasible]
        ranks = rank_scores([record.scores for record in cohort])
        order = sorted(range(len(cohort)), key=lambda i: (-ranks[i], cohort[i].index))
        ranking = _spread([cohort[i] for i in order])
        score_of = {record.index: rank for record, rank in zip(cohort, ranks, strict=True)}
        finalists = session.finalists((record, score_of[record.index]) for record in ranking)
        warnings = size_warnings([record.scores for record in cohort], [r.cost.macs for r in cohort if r.cost])
        return Outcome(tuple(session.train(finalists) if self.trains else finalists), tuple(warnings))


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


def _spread(ranked: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The ranking with near-twins of a better candidate moved to its end; degenerate networks come after everything."""
    chosen: list[TrialRecord] = []
    twins: list[TrialRecord] = []
    for record in ranked:
        near = any(_difference(record, other) < MIN_DIFFERENCE for other in chosen)
        (twins if near or record.degenerate else chosen).append(record)
    return chosen + sorted(twins, key=lambda record: record.degenerate)


def _difference(a: TrialRecord, b: TrialRecord) -> int:
    mine, theirs = a.architecture.values, b.architecture.values
    return sum(mine.get(name) != theirs.get(name) for name in {*mine, *theirs})


ZERO_SHOT = ScreenedStrategy("zero-shot", "rank untrained candidates by trainability scores", trains=False)
HYBRID = ScreenedStrategy("hybrid", "rank untrained candidates, then train the best few", trains=True)
