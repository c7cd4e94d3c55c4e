"""`Study`: the Optuna study behind a search. Asks, tells, and survives being killed between any two statements.

The sampler is re-created before every trial from (root seed, index of the trial). With one process the index counts
finished trials: a trial that was running when the process died is marked as failed, which samplers ignore, and its
index is done again, so that a resumed search equals an undisturbed one bit for bit. With several processes `claims`
gives every index to one of them at a time; which trials a sampler knows when it draws then depends on who is first.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from ..common.errors import InputError
from ..models.architecture import Architecture, KnobValue
from .batch_record import RECORD, Finished, trial_writer
from .claims import PULSE, Claims, SharedClaims, SoleClaims
from .pruning import make_pruner
from .results import TrialRecord
from .sampler_factories import Given
from .samplers import SAMPLERS
from .seeds import Stream, seed_for
from .space import Space
from .storage import Place, open_storage, parse_place, storage_errors
from .workers import Pulse, this_worker

Direction: TypeAlias = Literal["maximize", "minimize"]

STUDY_NAME = "search"  # in a file of its own, whatever the directory is called: a run may be moved between two sittings
SHARED_NOTE = "lanefit search"  # the note under which a search that several processes work on says what it is


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a trial is told: objective values, constraints (zero or less is feasible) and the record to keep.

    `notes` are JSON values that a person sees beside the trial, in Optuna's dashboard.
    """

    values: tuple[float, ...]
    record: TrialRecord
    constraints: dict[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class Handle:
    """A running trial as its evaluation sees it."""

    def __init__(self, trial: Trial, index: int, *, prunable: bool, place: Place) -> None:
        self.index = index
        self._trial, self._prunable, self._place = trial, prunable, place

    def report(self, step: int, value: float) -> bool:
        """Stores an intermediate value; False when the pruner ends the trial at this step."""
        if not self._prunable:
            return True
        with storage_errors(self._place):
            self._trial.report(value, step)
            return not self._trial.should_prune()


def trial_notes(record: TrialRecord) -> dict[str, Any]:
    """What a person reads and plots in Optuna's dashboard: the architecture, its costs and the verdict, one by one."""
    notes: dict[str, Any] = {"architecture": record.architecture.to_json(), "feasible": record.feasible}
    if record.cost is None:
        return {**notes, "refusal": record.refusal}
    names = ("latency_us", "latency_upper_us", "sram_bytes", "weight_bytes", "macs")
    return {**notes, **{name: getattr(record.cost, name) for name in names}, "verdict": str(record.verdict)}


Evaluate = Callable[[Architecture, Handle], Evaluation]
Propose = Callable[[int], Architecture | None]
"""The architecture of the trial with this index, or None to let the sampler draw it. Must depend on nothing but
finished trials, stored notes and the index, so that a resume proposes the same."""
Parameters = Callable[[int], Mapping[str, KnobValue] | None]


class Study:
    """A single search in a storage. Open it with `open_study`."""

    def __init__(
        self, study: optuna.Study, storage: BaseStorage, backend: BaseStorage, place: Place, sampler: str, seed: int
    ) -> None:
        self._study, self._storage, self._place, self._seed = study, storage, place, seed
        self._make_sampler = SAMPLERS.get(sampler)
        self._claims: Claims | None = None
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._writer = trial_writer(storage, backend, self._study_id)
        self._numbers: set[int] = set()  # of the trials whose records are here
        self.records: list[TrialRecord] = []  # of finished trials, by index
        self.finished_here = 0
        self.absorb()

    @property
    def directions(self) -> tuple[Direction, ...]:
        return tuple("minimize" if d is StudyDirection.MINIMIZE else "maximize" for d in self._study.directions)

    def claim_alone(self) -> None:
        """This process has the study to itself: trials that seem to run are dead."""
        self._claims = SoleClaims(self._study, lambda: len(self.records), self._writer.running)

    def claim_among_others(self) -> None:
        """Other processes may work on this study at the same time."""
        self._claims = SharedClaims(self._storage, self._study_id, this_worker())

    def run(
        self,
        total: int,
        space: Space,
        evaluate: Evaluate,
        done: Callable[[TrialRecord], None],
        *,
        propose: Propose | None = None,
        enough: Callable[[], bool] | None = None,
    ) -> None:
        """Evaluates trials until `total` are finished, by whomever, or `enough` says so before one begins.

        `done` hears of each. Whatever escapes leaves the study ready for another `run`.
        """
        assert self._claims is not None
        given = _parameters(space, propose)
        try:
            while not (enough and enough()) and (claim := self._take(total, given, done)) is not None:
                record = self._one(*claim, space, evaluate)
                if record is not None:
                    self.finished_here += 1
                    self._numbers.add(claim[0].number)
                    self._keep(record)
                    done(record)
        except BaseException:
            with suppress(InputError), storage_errors(self._place):  # what escapes matters more
                self._claims.release()
            raise

    def add(
        self,
        evaluations: Sequence[Evaluation],
        params: Sequence[Mapping[str, Any]],
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        """Stores trials that were drawn and evaluated together; only a process that is alone may."""
        if not isinstance(self._claims, SoleClaims):
            problem = "trials that are drawn by the generation need a study to themselves"
            raise InputError(
                problem, where=self._place.shown, hint="drop --storage: one process does thousands a minute"
            )
        finished = [
            Finished(drawn, found.values, {**found.notes, RECORD: found.record.as_dict()}, found.constraints)
            for found, drawn in zip(evaluations, params, strict=True)
        ]
        with storage_errors(self._place):
            self._writer.add(finished, distributions)
        self.records += [found.record for found in evaluations]
        self.finished_here += len(finished)

    def absorb(self) -> list[TrialRecord]:
        """Adds the records of finished trials that are new to this process, and returns them."""
        with storage_errors(self._place):
            stored = self._writer.records(self._numbers)
        try:
            found = [TrialRecord.from_dict(values) for values in stored.values()]
        except (KeyError, TypeError) as error:
            problem = f"{self._place.name} holds trials that lanefit did not write: {error}"
            raise InputError(problem, where=self._place.shown, hint="start a new search") from error
        self._numbers.update(stored)
        for record in found:
            self._keep(record)
        return found

    def note(self, key: str) -> Any:
        """A value stored beside the trials, or None."""
        with storage_errors(self._place):
            return self._study.user_attrs.get(key)

    def set_note(self, key: str, value: Any) -> None:
        """Stores a JSON value beside the trials, where a resume finds it."""
        with storage_errors(self._place):
            self._study.set_user_attr(key, value)

    def _take(self, total: int, given: Parameters, done: Callable[[TrialRecord], None]) -> tuple[Trial, int] | None:
        assert self._claims is not None
        with storage_errors(self._place):
            claim = self._claims.take(total, lambda index: self._study_for(index, given))
        if isinstance(self._claims, SharedClaims):
            for record in self.absorb():
                done(record)
        return claim

    def _study_for(self, index: int, given: Parameters) -> optuna.Study:
        """A study object that draws trial `index`; new, since what one remembers of other trials grows old."""
        proposed = given(index)
        seed = seed_for(self._seed, Stream.SAMPLER, index)
        sampler = Given(proposed) if proposed else self._make_sampler(seed)
        if isinstance(self._claims, SharedClaims):
            return optuna.Study(self._study.study_name, self._storage, sampler, self._study.pruner)
        self._study.sampler = sampler
        return self._study

    def _one(self, trial: Trial, index: int, space: Space, evaluate: Evaluate) -> TrialRecord | None:
        """The record of a trial; None when another worker was given its index meanwhile."""
        try:
            with self._pulse(trial):
                evaluation = self._evaluated(trial, index, space, evaluate)
            with storage_errors(self._place):
                self._tell(trial, evaluation)
        except (UpdateFinishedTrialError, ValueError):
            with storage_errors(self._place):
                if self._storage.get_trial(trial._trial_id).state is TrialState.FAIL:
                    return None
            raise
        return evaluation.record

    def _evaluated(self, trial: Trial, index: int, space: Space, evaluate: Evaluate) -> Evaluation:
        with storage_errors(self._place):
            architecture = space.suggest(trial)
        prunable = len(self._study.directions) == 1
        return evaluate(architecture, Handle(trial, index, prunable=prunable, place=self._place))

    def _pulse(self, trial: Trial) -> AbstractContextManager[object]:
        if isinstance(self._claims, SoleClaims):
            return nullcontext()
        return Pulse(lambda count: trial.set_user_attr(PULSE, count))

    def _tell(self, trial: Trial, evaluation: Evaluation) -> None:
        notes = {**evaluation.notes, RECORD: evaluation.record.as_dict()}
        self._writer.annotate(trial._trial_id, notes, evaluation.constraints)
        if evaluation.record.stopped and len(self._study.directions) == 1:
            trial.study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.study.tell(trial, list(evaluation.values))

    def _keep(self, record: TrialRecord) -> None:
        insort(self.records, record, key=lambda kept: kept.index)


def _parameters(space: Space, propose: Propose | None) -> Parameters:
    def given(index: int) -> Mapping[str, KnobValue] | None:
        proposed = propose(index) if propose else None
        return space.parameters(proposed) if proposed else None

    return given


@contextmanager
def open_study(
    place: Path | Place,
    *,
    sampler: str,
    directions: Sequence[Direction],
    seed: int,
    name: str = STUDY_NAME,
    shared: bool = False,
    pruner: str = "median",
) -> Iterator[Study]:
    """The study `name` at `place`, created when absent. `shared` when other processes may work on it now.

    Raises:
        InputError: when the storage cannot be read or written, or is not a study with these directions.
    """
    found = place if isinstance(place, Place) else parse_place(place)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns at every knob that is not always active
    with open_storage(found) as backend:
        with storage_errors(found):
            storage = get_storage(backend)
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=directions,
                pruner=make_pruner(pruner),
                load_if_exists=True,
            )
        if study.directions != [StudyDirection[direction.upper()] for direction in directions]:
            wants = ", ".join(direction.name.lower() for direction in study.directions)
            raise InputError(f"{found.name} wants to {wants}, not {', '.join(directions)}", where=found.shown)
        with storage_errors(found):
            opened = Study(study, storage, backend, found, sampler, seed)
            opened.claim_among_others() if shared else opened.claim_alone()
        yield opened
