"""`Session`: the steps that strategies are made of. Whatever they finish is stored, so that a resume skips it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..common.budget import Verdict
from ..common.errors import InputError, UnsupportedError
from ..models.architecture import Architecture
from .beginning import Beginning, read_beginning
from .config import SearchConfig
from .ledger import Ledger
from .progress import Tally
from .results import Finalist, TrialRecord, distinct
from .rundir import RunDirectory
from .scoring import Cost, Estimate, OnEpoch, Parted, ScreensMany, Training, Workbench
from .seeds import Stream, seed_for
from .study import Evaluation, Handle, Propose, Study, trial_notes
from .weights import read_weights, save_weights

MEASURE_FACTOR = 5  # at most this many candidates are measured for each place among the finalists


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a search: `done` of `total` in the stage "screen", "supernet" or "train"; `text` for the status."""

    stage: str
    done: int
    total: int
    text: str = ""


Progress = Callable[[Step], None]
Weights = Mapping[str, NDArray[np.generic]]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a strategy makes of a feasible candidate; `value` is what the sampler maximises."""

    value: float
    scores: Mapping[str, float] = field(default_factory=dict)
    accuracy: float | None = None
    curve: tuple[float, ...] = ()
    stopped: bool = False


Assess = Callable[[Architecture, Handle], Assessment]


class Session:
    """One running search. `config.seed` is set."""

    def __init__(
        self, config: SearchConfig, bench: Workbench, study: Study, run: RunDirectory, progress: Progress
    ) -> None:
        assert config.seed is not None
        self.config, self.bench, self.study, self.run, self.progress = config, bench, study, run, progress
        self.seed: int = config.seed
        self.budget = config.budget()
        self._parts: dict[str, Any] = {}  # notes on the trial at work
        self.ledger = Ledger(config.trainings, config.train_seconds)
        self._costs: dict[str, tuple[Cost | UnsupportedError, dict[str, Any]]] = {}
        self._parents: dict[str, tuple[Architecture, float]] = {}
        self.start_from: Callable[[Architecture], Weights] | None = None  # weights that trainings begin with
        self._booked_until = time.process_time()
        self.beginning = self._beginning()

    def explore(
        self,
        assess: Assess,
        *,
        total: int | None = None,
        propose: Propose | None = None,
        enough: Callable[[], bool] | None = None,
    ) -> list[TrialRecord]:
        """The first `total` trials of the study (None: all that are configured), after those that are missing were
        asked for, costed and, if feasible, assessed.

        `propose` names architectures instead of the sampler, after those that the search begins with; `enough` ends
        the search before its last trial.
        """
        wanted = self.config.trials if total is None else total
        known: dict[str, TrialRecord] = {}
        for earlier in self.study.records:
            _remember(known, earlier)

        tally = Tally(self.study.records)

        def evaluate(architecture: Architecture, handle: Handle) -> Evaluation:
            self._parts = {}
            record = self._record(architecture, handle, assess, known.get(architecture.digest()))
            notes = {**trial_notes(record), **self._parts}
            return Evaluation(record.values, record, self.constraints(record), notes)

        def done(record: TrialRecord) -> None:
            _remember(known, record)
            tally.add(record)
            self.progress(Step("screen", len(self.study.records), self.config.trials, tally.text(self.config.trials)))

        for record in self.study.records:
            self._remember_training(record)
        self.study.run(wanted, self.bench.space, evaluate, done, propose=self._proposing(propose), enough=enough)
        return list(self.study.records[:wanted])

    @property
    def trained(self) -> dict[str, float]:
        """Validation accuracy by architecture digest, of every training that ran to its end."""
        return {digest: accuracy for digest, (_, accuracy) in self._parents.items()}

    def _beginning(self) -> Beginning:
        """Read once and kept with the trials: a resume and other workers need none of the files."""
        if not (self.config.enqueue or self.config.warm_start):
            return Beginning()
        read = self.note("beginning", lambda: read_beginning(self.config, self.bench.space).as_dict())
        return Beginning.from_dict(read)

    def _proposing(self, propose: Propose | None) -> Propose | None:
        if not self.beginning.architectures:
            return propose
        return lambda index: self.beginning.at(index) or (propose(index) if propose else None)

    def costs(self, architectures: Sequence[Architecture]) -> list[Cost | UnsupportedError]:
        """What each costs, or why the target refuses it; screened together where the workbench can."""
        if not isinstance(self.bench, ScreensMany) or self.budget.energy_uj is not None:  # which no screen tells
            return [self._estimated(architecture)[0] for architecture in architectures]
        seen = self.bench.screen_many(architectures)
        return [
            (Cost.screened(found) if found else None) or self._estimated(each)[0]
            for each, found in zip(architectures, seen, strict=True)
        ]

    def finalists(self, ranking: Iterable[tuple[TrialRecord, float | None]]) -> list[Finalist]:
        """The first candidates of `ranking` that stay inside the budget when measured, and those that did not.

        Without a way to measure, the prediction stands. At most `config.finalists` pass.
        """
        chosen: list[Finalist] = []
        for record, rank_score in ranking:
            passed = sum(finalist.verdict.passed for finalist in chosen)
            if passed == self.config.finalists or len(chosen) == MEASURE_FACTOR * self.config.finalists:
                break
            chosen.append(self._measured(Finalist(record, record.verdict, rank_score)))
        return chosen

    def train_ranked(self, ranking: Iterable[tuple[TrialRecord, float | None]], most: int) -> list[Finalist]:
        """Measures and trains in the order of `ranking`: at most `most`, and only while the ledger allows more.

        A candidate that is outside of the budget once measured is not trained and takes no place, but is returned.
        """
        found: list[Finalist] = []
        for record, rank_score in ranking:
            trained = sum(finalist.accuracy is not None for finalist in found)
            if trained == most or not self.ledger.open or len(found) == MEASURE_FACTOR * most:
                break
            found += self.train([self._measured(Finalist(record, record.verdict, rank_score))])
        return found

    def train(self, finalists: list[Finalist]) -> list[Finalist]:
        """The finalists with validation accuracy and stored weights; those outside of the budget stay as they are."""
        trained: list[Finalist] = []
        total = sum(finalist.verdict.passed for finalist in finalists)
        for finalist in finalists:
            if not finalist.verdict.passed:
                trained.append(finalist)
                continue
            done = sum(f.accuracy is not None for f in trained)
            self.progress(Step("train", done, total, f"trial {finalist.trial.index}"))
            training = self.training(finalist.architecture, self._on_epoch(done, total))
            trained.append(self._with_training(finalist, training))
            self.progress(Step("train", done + 1, total, f"accuracy {training.accuracy:.2%}"))
        return trained

    def training(self, architecture: Architecture, on_epoch: OnEpoch) -> Training:
        """Trains, or returns the stored outcome. Every candidate trains with the same seed, for a fair comparison."""
        digest = architecture.digest()
        stored = self.study.note(f"training:{digest}")
        if stored is not None and self._has_weights(digest):
            for epoch, accuracy in enumerate(stored["curve"], start=1):
                on_epoch(epoch, accuracy)  # a pruner compares later trials with these
            training = Training(stored["accuracy"], tuple(stored["curve"]), stored["accuracy_test"])
            self._seconds_to_book()  # an earlier sitting has booked what led here
        else:
            training, stored = self._train_now(architecture, on_epoch)
        self._enter(architecture, stored["seconds"], None if training.stopped else training.accuracy)
        return training

    def _train_now(self, architecture: Architecture, on_epoch: OnEpoch) -> tuple[Training, dict[str, Any]]:
        digest = architecture.digest()
        more = self._start(architecture)
        training = self.bench.train(architecture, seed_for(self.seed, Stream.TRAINING), on_epoch, **more)
        stored: dict[str, Any] = {"seconds": self._seconds_to_book()}
        if training.stopped:
            self.study.set_note(f"stopped:{digest}", stored)
            return training, stored
        save_weights(self.run.weights(digest), training.weights)
        stored |= {name: getattr(training, name) for name in ("accuracy", "accuracy_test", "curve")}
        self.study.set_note(f"training:{digest}", stored)
        return training, stored

    def _start(self, architecture: Architecture) -> dict[str, Weights | None]:
        if self.start_from is not None:
            return {"start": self.start_from(architecture)}
        return {"start": self._inherited(architecture)} if self.config.inherit else {}

    def charged(self, stage: str, work: Callable[[], Found]) -> Found:
        """Does `work` and enters its processor seconds into the ledger; a resumed search enters what it took then.

        Of a stage that was interrupted, only the last sitting counts. Trainings inside of it enter themselves.
        """
        found = work()
        self.ledger.charge(stage, self.note(f"seconds:{stage}", self._seconds_to_book))
        self._seconds_to_book()
        return found

    def _seconds_to_book(self) -> float:
        """Processor seconds since this was last asked: whatever led to a training or stage is booked with it.

        So the ledger lacks nothing between the opening of the session and its last entry: candidates that were refused,
        samplers, compilations and stored files too.
        """
        begun, self._booked_until = self._booked_until, time.process_time()
        return self._booked_until - begun

    def _remember_training(self, record: TrialRecord) -> None:
        """A training of an earlier sitting, as far as the trial itself trained."""
        if record.accuracy is None:
            return
        digest = record.architecture.digest()
        stored = self.study.note(f"{'stopped' if record.stopped else 'training'}:{digest}") or {}
        self._enter(record.architecture, stored.get("seconds", 0.0), None if record.stopped else record.accuracy)

    def _enter(self, architecture: Architecture, seconds: float, accuracy: float | None) -> None:
        digest = architecture.digest()
        self.ledger.enter(digest, seconds)
        if accuracy is not None:
            self._parents.setdefault(digest, (architecture, accuracy))

    def _inherited(self, architecture: Architecture) -> Weights | None:
        """Weights of the trained network that differs in the fewest knobs, the more accurate one of equals."""
        parents = [(parent, accuracy) for parent, accuracy in self._parents.values() if parent != architecture]
        if not parents:
            return None
        nearest, _ = min(parents, key=lambda item: (knob_difference(item[0], architecture), -item[1]))
        return read_weights(self.run.weights(nearest.digest()))

    def cost(self, architecture: Architecture) -> Cost | None:
        """The estimate, remembered; None for what the target refuses."""
        cost, _ = self._estimated(architecture)
        return cost if isinstance(cost, Cost) else None

    def _estimated(self, architecture: Architecture) -> tuple[Cost | UnsupportedError, dict[str, Any]]:
        """The cost and notes on its parts, or why the target refuses the architecture."""
        digest = architecture.digest()
        if digest not in self._costs:
            try:
                estimate = self.bench.estimate(architecture)
                self._costs[digest] = Cost.of(estimate), _parts(estimate)
            except UnsupportedError as error:
                self._costs[digest] = error, {}
        return self._costs[digest]

    def scores(self, architecture: Architecture) -> dict[str, float]:
        """Zero-shot scores; all candidates see the same seed and minibatch."""
        return self.bench.score(architecture, seed_for(self.seed, Stream.PROXY))

    def note(self, key: str, compute: Callable[[], Any]) -> Any:
        """The stored value of `key`, computed and stored the first time."""
        value = self.study.note(key)
        if value is None:
            value = compute()
            self.study.set_note(key, value)
        return value

    def _record(
        self, architecture: Architecture, handle: Handle, assess: Assess, known: TrialRecord | None
    ) -> TrialRecord:
        if known is not None and not known.stopped:  # everything is deterministic in the architecture
            return replace(known, index=handle.index)
        cost, self._parts = self._estimated(architecture)
        if isinstance(cost, UnsupportedError):
            return TrialRecord(handle.index, architecture, None, Verdict(), self._values(None, None), refusal=str(cost))
        verdict = cost.check(self.budget.hardware())
        if not verdict.passed:
            return TrialRecord(handle.index, architecture, cost, verdict, self._values(None, cost))
        found = assess(architecture, handle)
        return TrialRecord(
            handle.index,
            architecture,
            cost,
            verdict,
            self._values(found.value, cost),
            scores=found.scores,
            accuracy=found.accuracy,
            curve=found.curve,
            stopped=found.stopped,
        )

    def _values(self, value: float | None, cost: Cost | None) -> tuple[float, ...]:
        """An infeasible candidate gets the worst known value: the constraint, not the objective, drives samplers
        away from it, but they need a finite one."""
        known = [record.values for record in self.study.records]
        score = value if value is not None else min((values[0] for values in known), default=0.0)
        if len(self.config.objectives) == 1:
            return (score,)
        latency = cost.latency_upper_us if cost else max((values[1] for values in known), default=0.0)
        return (score, latency)

    def constraints(self, record: TrialRecord) -> dict[str, float]:
        if record.cost is None:
            return {"supported": 1.0, **{name: 1.0 for name in self.budget.hardware().limits()}}
        return {"supported": 0.0, **{item.name: -item.slack for item in record.verdict.items}}

    def _measured(self, finalist: Finalist) -> Finalist:
        stored = self.note(f"measured:{finalist.architecture.digest()}", lambda: self._measure(finalist.architecture))
        if not stored:
            return finalist
        cost = Cost(**stored)
        return replace(finalist, measured=cost, verdict=cost.check(self.budget.hardware()))

    def _measure(self, architecture: Architecture) -> dict[str, Any]:
        measured = self.bench.measure(architecture)
        return Cost.of(measured).as_dict() if measured is not None else {}

    def _with_training(self, finalist: Finalist, training: Training) -> Finalist:
        weights = self.run.weights(finalist.architecture.digest()).relative_to(self.run.path)
        return replace(
            finalist,
            accuracy=training.accuracy,
            accuracy_test=training.accuracy_test,
            curve=training.curve,
            weights=weights.as_posix(),
            verdict=finalist.cost.check(self.budget, training.accuracy),
        )

    def _on_epoch(self, done: int, total: int) -> OnEpoch:
        def on_epoch(epoch: int, accuracy: float) -> bool:
            self.progress(Step("train", done, total, f"epoch {epoch}, accuracy {accuracy:.2%}"))
            return True

        return on_epoch

    def _has_weights(self, digest: str) -> bool:
        try:
            read_weights(self.run.weights(digest))
        except InputError:
            return False
        return True


def _parts(estimate: Estimate) -> dict[str, Any]:
    if not isinstance(estimate, Parted):
        return {}
    return {"latency_parts_us": {part.label: round(part.latency_us, 3) for part in estimate.parts}}


def _remember(known: dict[str, TrialRecord], record: TrialRecord) -> None:
    """Keeps the first record of an architecture, but rather a later one whose training ran to its end."""
    digest = record.architecture.digest()
    if digest not in known or known[digest].stopped:
        known[digest] = record


def knob_difference(a: Architecture, b: Architecture) -> int:
    """Number of knobs that differ or that only one of the two has."""
    mine, theirs = a.values, b.values
    return sum(mine.get(name) != theirs.get(name) for name in {*mine, *theirs})


def most_accurate(finalists: Sequence[Finalist], count: int) -> list[Finalist]:
    """The `count` most accurate finalists inside the budget, best first, and all that are outside of it."""
    inside = [finalist for finalist in finalists if finalist.verdict.passed]
    inside.sort(key=lambda finalist: -(finalist.accuracy or 0.0))
    return inside[:count] + [finalist for finalist in finalists if not finalist.verdict.passed]


def by_rank(records: Iterable[TrialRecord], key: Callable[[TrialRecord], float]) -> list[TrialRecord]:
    """Distinct records, best `key` first; equal ones by index, so that the order never depends on chance."""
    return sorted(distinct(records), key=lambda record: (-key(record), record.index))
