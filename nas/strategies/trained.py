"""Strategies that believe in training only: `random`, the yardstick, and `multi-shot`, which trains every candidate."""

from __future__ import annotations

from ...models.architecture import Architecture
from ..results import TrialRecord, distinct
from ..session import Assessment, Session, by_rank
from ..study import Handle
from .base import Outcome


class RandomStrategy:
    """Trains the first feasible candidates in the order in which they were drawn, unscored."""

    name = "random"
    trains = True
    sampler = "random"
    summary = "train the first feasible random candidates: the yardstick for every other strategy"

    def run(self, session: Session) -> Outcome:
        records = session.explore(lambda architecture, handle: Assessment(0.0))
        drawn = [(record, None) for record in distinct(records) if record.feasible]
        return Outcome(tuple(session.train(session.finalists(drawn))))


class MultiShotStrategy:
    """Trains every feasible candidate and stops those below the median of earlier ones at the same epoch.

    With two objectives nothing is stopped early, since Optuna prunes single-objective studies only.
    """

    name = "multi-shot"
    trains = True
    sampler = None
    summary = "train every feasible candidate, stopping the ones that fall behind"

    def run(self, session: Session) -> Outcome:
        def assess(architecture: Architecture, handle: Handle) -> Assessment:
            training = session.training(architecture, handle.report)
            return Assessment(training.accuracy, {}, training.accuracy, training.curve, training.stopped)

        records = session.explore(assess)
        full = [record for record in records if record.feasible and not record.stopped]
        ranking = [(record, None) for record in by_rank(full, _accuracy)]
        finalists = session.train(session.finalists(ranking))
        session.run.keep_weights(f.architecture.digest() for f in finalists if f.accuracy is not None)
        return Outcome(tuple(finalists))


def _accuracy(record: TrialRecord) -> float:
    return record.accuracy if record.accuracy is not None else 0.0


RANDOM = RandomStrategy()
MULTI_SHOT = MultiShotStrategy()
