"""`SupernetStage`: the supernet of a search, whoever asks for it: `one-shot` as its judge, `hybrid` as one of two.

Its rules, which the remarks of a search repeat: it takes a share of the search's processor seconds, what planning it
took included, and ends when they are over (without a limit of seconds, `UNTIMED_EPOCHS`); it is trained on
architectures inside the budget only; and what it costs, its verdicts included, is entered into the ledger that the
trainings are paid from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...common.errors import BudgetError
from ...models.architecture import Architecture
from ..oneshot.pool import FeasiblePool, feasible_pool
from ..proxies.selfcheck import spearman
from ..results import Finalist
from ..scoring import Subnets, WithSupernet
from ..seeds import Stream, seed_for
from ..session import Session, Step, Weights

HYBRID_SHARE, LEAST_EPOCHS = 0.25, 8  # see `for_hybrid`
UNTIMED_EPOCHS = 24
MOST_EPOCHS = 200  # more than that teaches shared weights little
PLAN = "supernet plan"  # the stage under which a plan is charged
_DONE = "supernet-done"
LEAST_COMPARED = 4  # trained networks from which a rank correlation is worth a remark


@dataclass(frozen=True, slots=True)
class SupernetPlan:
    """How long a supernet trains: about `epochs`, in `seconds` of processor time (None: not limited)."""

    pool: FeasiblePool
    epochs: int
    seconds: float | None


def plan_supernet(session: Session, share: float) -> SupernetPlan | None:
    """The supernet that `share` of the search's seconds pays for; None where nothing can be shared.

    That is: fewer than two architectures were found inside the budget, or the workbench has no supernet. `epochs` may
    be 0: the seconds are too few.
    """
    bench = session.bench
    if not isinstance(bench, WithSupernet):
        return None
    try:
        pool = feasible_pool(bench.space, lambda item: _size(session, item), seed=_seed(session))
    except BudgetError:
        return None
    most = session.ledger.most_seconds
    if most is None:
        return SupernetPlan(pool, UNTIMED_EPOCHS, None)
    seconds = share * most
    # measured once: a resumed search must not train for longer or shorter because the machine is busy now
    epochs = session.note(
        "supernet-epochs", lambda: min(MOST_EPOCHS, bench.supernet_epochs(pool, _seed(session), seconds))
    )
    return SupernetPlan(pool, epochs, seconds)


def for_hybrid(session: Session) -> tuple[SupernetStage | None, str]:
    """The supernet of a search that can do without, or None with the reason, where there is one to tell.

    It is worth its share where that pays for `LEAST_EPOCHS`; a search without a limit of seconds has nothing to share.
    """
    if session.ledger.most_seconds is None or not isinstance(session.bench, WithSupernet):
        return None, ""
    plan = plan_supernet(session, HYBRID_SHARE)
    if plan is None:
        return None, "no supernet: the budget leaves fewer than two architectures to share"
    if plan.epochs < LEAST_EPOCHS:
        share = f"{HYBRID_SHARE:.0%} of the seconds"
        return None, f"no supernet: {share} pay for {plan.epochs} epochs of it, and under {LEAST_EPOCHS} it ranks badly"
    return SupernetStage(session, plan), ""


@dataclass
class SupernetStage:
    """A planned supernet. What it said is stored beside the trials, so that a resume need not ask it again."""

    session: Session
    plan: SupernetPlan
    _told: dict[str, float] = field(default_factory=dict)
    _trained: Subnets | None = None
    _epochs: int = 0  # that were trained, the last one perhaps not to its end

    def train(self) -> None:
        """Trains it, unless an earlier sitting finished that."""
        if self.session.study.note(_DONE) is None:
            self._subnets()
            self.session.study.set_note(_DONE, self._epochs)

    def accuracy(self, architecture: Architecture) -> float:
        """Validation accuracy (0..1) of the subnet, untrained beyond the shared weights."""
        digest = architecture.digest()
        self._told[digest] = self.session.note(f"subnet:{digest}", lambda: self._subnets().accuracy(architecture))
        return self._told[digest]

    def weights(self, architecture: Architecture) -> Weights:
        """What a training of the architecture begins with."""
        return self._subnets().weights(architecture)

    def remarks(self, finalists: Sequence[Finalist]) -> list[str]:
        """What was trained and, where enough networks were trained afterwards, how well the supernet ranked them."""
        known = [f for f in finalists if f.accuracy is not None and f.architecture.digest() in self._told]
        told = [self._told[f.architecture.digest()] for f in known]
        if len(known) < LEAST_COMPARED or min(len(set(told)), len({f.accuracy for f in known})) < 2:
            return [str(self)]
        rank = spearman(told, [f.accuracy or 0.0 for f in known])
        return [f"{self}; Spearman {rank:.2f} with the {len(known)} networks that were trained"]

    def __str__(self) -> str:
        seconds, epochs = self.plan.seconds, self.session.study.note(_DONE) or self.plan.epochs
        limit = "without a limit of seconds" if seconds is None else f"in {seconds:.0f} s"
        return f"supernet: {epochs} epochs {limit}, on {len(self.plan.pool.members)} architectures inside the budget"

    @property
    def _seconds(self) -> float | None:
        """What is left of the plan's seconds for the training: the plan itself has taken some."""
        if self.plan.seconds is None:
            return None
        return max(self.plan.seconds - self.session.ledger.charges.get(PLAN, 0.0), 0.0)

    def _subnets(self) -> Subnets:
        """The trained supernet; what an earlier sitting stored of it is read, not trained again."""
        if self._trained is None:
            session, plan, seconds = self.session, self.plan, self._seconds
            assert isinstance(session.bench, WithSupernet)

            def progress(done: int) -> None:
                self._epochs = done
                session.progress(Step("supernet", done, max(done, plan.epochs), f"epoch {done}"))

            most = plan.epochs if seconds is None else MOST_EPOCHS
            self._trained = session.bench.supernet(
                plan.pool, _seed(session), epochs=most, seconds=seconds, state=session.run.supernet, on_epoch=progress
            )
        return self._trained


def _seed(session: Session) -> int:
    return seed_for(session.seed, Stream.SUPERNET)


def _size(session: Session, architecture: Architecture) -> float | None:
    cost = session.cost(architecture)
    inside = cost is not None and cost.check(session.budget.hardware()).passed
    return float(cost.macs) if cost is not None and inside else None
