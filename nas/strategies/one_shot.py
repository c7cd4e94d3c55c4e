"""`one-shot`: a supernet with shared weights judges candidates, and finalists train on from the weights they had in it.

1. The supernet trains on architectures inside the budget, with its share of the search's seconds.
2. Half of the trials are wide draws, half changes of the best so far; each costs a pass over validation images. There
   are as many as a share of the seconds pays for, by the time that the first ones take.
3. The best that differ from one another are trained, each from its own slice of the shared weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...common.errors import ConfigError
from ...models.architecture import Architecture
from ..results import TrialRecord, distinct
from ..scoring import WithSupernet
from ..session import Assessment, Session, by_rank, most_accurate
from ..study import Handle
from .base import Outcome
from .candidates import Candidates
from .ranking import ranked
from .supernet_stage import PLAN, SupernetStage, plan_supernet
from .trained import RANDOM, unspent

SHARE = 0.4  # of the seconds, for the supernet's training
VERDICTS = 0.2  # of the seconds, at most, for what it says; the finalists' trainings get the rest
TIMED = 8  # verdicts from which it follows how many there are
PARENTS = 10
WIDE = 0.5  # of the trials, before the best are changed


class OneShotStrategy:
    name = "one-shot"
    trains = True
    sampler = "random"  # for when nothing that was drawn is inside the budget
    summary = "train one network with shared weights, let it rank candidates, and train the best from its weights"

    def run(self, session: Session) -> Outcome:
        """Raises `ConfigError` for a workbench that has no supernet."""
        if not isinstance(session.bench, WithSupernet):
            raise ConfigError("this workbench has no supernet", where="strategy", hint="use hybrid")
        plan = session.charged(PLAN, lambda: plan_supernet(session, SHARE))
        if plan is None:
            found = RANDOM.run(session)
            return Outcome(found.finalists, ("no supernet: the budget leaves fewer than two architectures to share",))
        if plan.epochs < 1:
            problem = f"{plan.seconds:.0f} s are not enough for an epoch of the supernet"
            raise ConfigError(problem, where="train_seconds", hint="give more seconds, or use hybrid")
        return self._search(session, SupernetStage(session, plan))

    def _search(self, session: Session, stage: SupernetStage) -> Outcome:
        session.charged("supernet", stage.train)
        session.start_from = stage.weights
        cohort = self._cohort(session, stage)
        ranking = ranked(cohort, [stage.accuracy(record.architecture) for record in cohort])
        limited = session.ledger.limited
        places = session.ledger.most or (len(ranking) if limited else session.config.finalists)
        trained = session.train_ranked(ranking, places)
        finalists = most_accurate(trained, session.config.finalists)
        return Outcome(tuple(finalists), (*stage.remarks(trained), *unspent(session)))

    def _cohort(self, session: Session, stage: SupernetStage) -> list[TrialRecord]:
        """The feasible cohort; how large it is follows from what the first verdicts cost, and is stored."""
        candidates = Candidates(session)
        session.charged("draws", lambda: candidates.drawn)
        first = min(TIMED, session.config.trials)
        session.charged("first verdicts", lambda: self._explore(session, stage, candidates, first, first))
        total = session.note("cohort", lambda: _affordable(session, first))
        return session.charged("verdicts", lambda: self._explore(session, stage, candidates, first, total))

    def _explore(
        self, session: Session, stage: SupernetStage, candidates: Candidates, first: int, total: int
    ) -> list[TrialRecord]:
        """The feasible ones of `total` trials; the value of each is its accuracy with the shared weights."""
        wide = max(first, int(WIDE * total))

        def assess(architecture: Architecture, handle: Handle) -> Assessment:
            accuracy = stage.accuracy(architecture)
            return Assessment(accuracy, {"supernet": accuracy})

        def propose(index: int) -> Architecture | None:
            cohort = _feasible(session.study.records[:index])
            known = {record.architecture.digest() for record in cohort}
            best = [r.architecture for r in by_rank(cohort, lambda record: record.values[0])[:PARENTS]]
            child = candidates.child(best, known, index) if index >= wide else None
            return child or candidates.wide(known)

        return _feasible(session.explore(assess, total=total, propose=propose))


def _affordable(session: Session, first: int) -> int:
    """How many trials the verdicts' share of the seconds pays for, the `first` ones included."""
    trials, most = session.config.trials, session.ledger.most_seconds
    each = session.ledger.charges["first verdicts"] / first
    return trials if most is None or each <= 0 else max(first, min(trials, int(VERDICTS * most / each)))


def _feasible(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [record for record in distinct(records) if record.feasible]


ONE_SHOT = OneShotStrategy()
