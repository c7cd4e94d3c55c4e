"""Strategy `zero-cost`: latency and MACs alone, a generation at a time: 100,000 trials in minutes.

MACs inside a latency budget are the plain yardstick that zero-shot scores are held against, and need no network to be
built. Everything else about a candidate (score, training) is for the strategies that follow up on few of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ...common.budget import Verdict
from ...common.errors import UnsupportedError
from ...models.architecture import Architecture
from ..batch import run_batches
from ..batch_samplers import BATCH_SAMPLERS
from ..config import AUTO
from ..progress import Tally
from ..results import TrialRecord
from ..scoring import Cost
from ..session import Session, Step, by_rank
from ..study import Evaluation, trial_notes
from .base import Outcome

DEFAULT_SAMPLER = "nsga2"
_NO_LATENCY_US = 1e6  # told of a refused candidate as long as no latency is known


class ZeroCostStrategy:
    """Maximises log MACs, under the budgets, and minimises latency where that is an objective."""

    name = "zero-cost"
    trains = False
    sampler = None
    summary = "most MACs inside the budget, by estimates alone: 100,000 trials in minutes"

    def run(self, session: Session) -> Outcome:
        name, warnings = _sampler_name(session.config.sampler)
        work = _Work(session)
        run_batches(
            session.study,
            session.bench.space,
            session.config.trials,
            session.seed,
            BATCH_SAMPLERS.get(name),
            work.evaluate,
            session.constraints,
            work.done,
            session.beginning.architectures,
        )
        feasible = [record for record in session.study.records if record.feasible]
        ranked = by_rank(feasible, lambda record: record.values[0])
        return Outcome(tuple(session.finalists(_estimated(session, ranked))), warnings)


def _estimated(session: Session, ranked: Iterable[TrialRecord]) -> Iterator[tuple[TrialRecord, float]]:
    """Candidates with the estimator's own word in place of the screen's."""
    budget = session.budget.hardware()
    for record in ranked:
        cost = session.cost(record.architecture)
        if cost is not None:
            yield replace(record, cost=cost, verdict=cost.check(budget)), record.values[0]


class _Work:
    """Costs candidates, each architecture once."""

    def __init__(self, session: Session) -> None:
        self._session, self._budget = session, session.budget.hardware()
        self._objectives = len(session.config.objectives)
        self._tally = Tally(session.study.records)
        self._worst_us = max((r.cost.latency_upper_us for r in session.study.records if r.cost), default=0.0)

    def evaluate(self, architectures: Sequence[Architecture], first: int) -> list[Evaluation]:
        costs = self._session.costs(architectures)
        records = [self._record(first + i, *found) for i, found in enumerate(zip(architectures, costs, strict=True))]
        return [Evaluation(r.values, r, self._session.constraints(r), trial_notes(r)) for r in records]

    def done(self, records: Sequence[TrialRecord]) -> None:
        for record in records:
            self._tally.add(record)
            self._worst_us = max(self._worst_us, record.cost.latency_upper_us if record.cost else 0.0)
        total = self._session.config.trials
        self._session.progress(Step("screen", len(self._session.study.records), total, self._tally.text(total)))

    def _record(self, index: int, architecture: Architecture, cost: Cost | UnsupportedError) -> TrialRecord:
        if isinstance(cost, UnsupportedError):
            values = (0.0, self._worst_us or _NO_LATENCY_US)[: self._objectives]
            return TrialRecord(index, architecture, None, Verdict(), values, refusal=str(cost))
        values = (math.log(max(cost.macs, 1)), cost.latency_upper_us)[: self._objectives]
        return TrialRecord(index, architecture, cost, cost.check(self._budget), values)


def _sampler_name(wanted: str) -> tuple[str, tuple[str, ...]]:
    """The batch sampler of that name; the default one, said aloud, when the wanted one draws one trial at a time."""
    if wanted == AUTO:
        return DEFAULT_SAMPLER, ()
    if wanted in BATCH_SAMPLERS:
        return wanted, ()
    known = ", ".join(BATCH_SAMPLERS)
    return DEFAULT_SAMPLER, (f"{wanted} draws one trial at a time; {DEFAULT_SAMPLER} took its place (of {known})",)


ZERO_COST = ZeroCostStrategy()
