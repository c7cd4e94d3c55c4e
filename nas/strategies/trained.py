"""Strategies that believe in training only: `random`, the yardstick, and `multi-shot`, which trains every candidate."""

from __future__ import annotations

from ...models.architecture import Architecture
from ..results import TrialRecord, distinct
from ..session import Assessment, Session, by_rank, most_accurate
from ..study import Handle
from .base import Outcome


class RandomStrategy:
    """Trains the first feasible candidates in the order in which they were drawn, unscored."""

    name = "random"
    trains = True
    sampler = "random"
    summary = "train the first feasible random candidates: the yardstick for every other strategy"

    def run(self, session: Session) -> Outcome:
        records = session.charged("draws", lambda: session.explore(lambda architecture, handle: Assessment(0.0)))
        drawn = [(record, None) for record in distinct(records) if record.feasible]
        places = session.ledger.most or (len(drawn) if session.ledger.limited else session.config.finalists)
        trained = session.train_ranked(drawn, places)
        return Outcome(tuple(most_accurate(trained, session.config.finalists)), tuple(unspent(session)))


class MultiShotStrategy:
    """Trains every feasible candidate, as long as the trainings last, and stops those that the pruner gives up.

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

        records = session.explore(assess, enough=lambda: not session.ledger.open)
        full = [record for record in records if record.feasible and not record.stopped]
        ranking = [(record, None) for record in by_rank(full, _accuracy)]
        finalists = session.train(session.finalists(ranking))
        if not session.config.inherit:
            session.run.keep_weights(f.architecture.digest() for f in finalists if f.accuracy is not None)
        return Outcome(tuple(finalists), tuple(unspent(session)))


def unspent(session: Session) -> list[str]:
    """A remark when the trials ran out before the trainings did."""
    most, done = session.config.trainings, session.ledger.trainings
    if most is None or done >= most or not session.ledger.open:
        return []
    return [f"only {done} of {most} trainings were used: {session.config.trials} trials gave no more feasible networks"]


def _accuracy(record: TrialRecord) -> float:
    return record.accuracy if record.accuracy is not None else 0.0


RANDOM = RandomStrategy()
MULTI_SHOT = MultiShotStrategy()
