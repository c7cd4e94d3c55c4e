"""`Session`: the steps that strategies are made of. Whatever they finish is stored, so that a resume skips it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.budget import Verdict
from ..common.errors import InputError, UnsupportedError
from ..models.architecture import Architecture
from .config import SearchConfig
from .progress import Tally
from .results import Finalist, TrialRecord, distinct
from .rundir import RunDirectory
from .scoring import Cost, OnEpoch, Parted, Training, Workbench
from .seeds import Stream, seed_for
from .study import Evaluation, Handle, Study, trial_notes
from .weights import read_weights, save_weights

MEASURE_FACTOR = 5  # at most this many candidates are measured for each place among the finalists


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a search: `done` of `total` in the stage "screen" or "train"; `text` is for a status line."""

    stage: str
    done: int
    total: int
    text: str = ""


Progress = Callable[[Step], None]


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

    def explore(self, assess: Assess) -> list[TrialRecord]:
        """All trials of the study, after those that are missing were asked for, costed and, if feasible, assessed."""
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

        self.study.run(self.config.trials, self.bench.space, evaluate, done)
        return list(self.study.records)

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
            return Training(stored["accuracy"], tuple(stored["curve"]), stored["accuracy_test"])
        training = self.bench.train(architecture, seed_for(self.seed, Stream.TRAINING), on_epoch)
        if not training.stopped:
            save_weights(self.run.weights(digest), training.weights)
            stored = {name: getattr(training, name) for name in ("accuracy", "accuracy_test", "curve")}
            self.study.set_note(f"training:{digest}", stored)
        return training

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
        try:
            estimate = self.bench.estimate(architecture)
        except UnsupportedError as error:
            return TrialRecord(
                handle.index, architecture, None, Verdict(), self._values(None, None), refusal=str(error)
            )
        cost = Cost.of(estimate)
        if isinstance(estimate, Parted):
            self._parts = {"latency_parts_us": {part.label: round(part.latency_us, 3) for part in estimate.parts}}
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


def _remember(known: dict[str, TrialRecord], record: TrialRecord) -> None:
    """Keeps the first record of an architecture, but rather a later one whose training ran to its end."""
    digest = record.architecture.digest()
    if digest not in known or known[digest].stopped:
        known[digest] = record


def by_rank(records: Iterable[TrialRecord], key: Callable[[TrialRecord], float]) -> list[TrialRecord]:
    """Distinct records, best `key` first; equal ones by index, so that the order never depends on chance."""
    return sorted(distinct(records), key=lambda record: (-key(record), record.index))
