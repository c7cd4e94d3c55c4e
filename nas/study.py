"""`Study`: the Optuna study behind a search. Asks, tells, and survives being killed between any two statements.

The sampler is re-created before every trial from (root seed, index of the trial), where the index counts finished
trials only. A trial that was running when the process died is marked as failed, which samplers ignore, and
its index is done again: a resumed search equals an undisturbed one bit for bit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from ..common.errors import InputError
from ..models.architecture import Architecture
from .pruning import make_pruner
from .results import TrialRecord
from .sampler_factories import Given
from .samplers import SAMPLERS
from .seeds import Stream, seed_for
from .space import Space

Direction: TypeAlias = Literal["maximize", "minimize"]

_RECORD = "record"
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)
STUDY_NAME = "search"  # whatever the directory is called: a run may be moved between two sittings


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a trial is told: objective values, constraints (zero or less is feasible) and the record to keep."""

    values: tuple[float, ...]
    record: TrialRecord
    constraints: dict[str, float] = field(default_factory=dict)


class Handle:
    """A running trial as its evaluation sees it."""

    def __init__(self, trial: Trial, index: int, *, prunable: bool, path: Path) -> None:
        self.index = index
        self._trial, self._prunable, self._path = trial, prunable, path

    def report(self, step: int, value: float) -> bool:
        """Stores an intermediate value; False when the pruner ends the trial at this step."""
        if not self._prunable:
            return True
        with _storage_errors(self._path):
            self._trial.report(value, step)
            return not self._trial.should_prune()


Evaluate = Callable[[Architecture, Handle], Evaluation]
Propose = Callable[[int], Architecture | None]
"""The architecture of the trial with this index, or None to let the sampler draw it. Must depend on nothing but
finished trials, stored notes and the index, so that a resume proposes the same."""


class Study:
    """A single search in a SQLite file. Open it with `open_study`."""

    def __init__(self, study: optuna.Study, storage: RDBStorage, path: Path, sampler: str, seed: int) -> None:
        self._study, self._storage, self._path, self._seed = study, storage, path, seed
        self._make_sampler = SAMPLERS.get(sampler)
        self.records = self._finished()

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
        """Evaluates trials until `total` are finished, or `enough` says so before one begins.

        Whatever escapes leaves the study ready for another `run`.
        """
        while len(self.records) < total and not (enough and enough()):
            try:
                record = self._one(space, evaluate, propose)
            except BaseException:
                self._fail_running()
                raise
            self.records.append(record)
            done(record)

    def note(self, key: str) -> Any:
        """A value stored beside the trials, or None."""
        with _storage_errors(self._path):
            return self._study.user_attrs.get(key)

    def set_note(self, key: str, value: Any) -> None:
        """Stores a JSON value beside the trials, where a resume finds it."""
        with _storage_errors(self._path):
            self._study.set_user_attr(key, value)

    def close(self) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _one(self, space: Space, evaluate: Evaluate, propose: Propose | None) -> TrialRecord:
        index = len(self.records)
        proposed = propose(index) if propose else None
        with _storage_errors(self._path):
            seed = seed_for(self._seed, Stream.SAMPLER, index)
            self._study.sampler = Given(proposed.values) if proposed else self._make_sampler(seed)
            trial = self._study.ask()
            architecture = space.suggest(trial)
        prunable = len(self._study.directions) == 1
        evaluation = evaluate(architecture, Handle(trial, index, prunable=prunable, path=self._path))
        with _storage_errors(self._path):
            self._tell(trial, evaluation)
        return evaluation.record

    def _tell(self, trial: Trial, evaluation: Evaluation) -> None:
        trial.set_user_attr(_RECORD, evaluation.record.as_dict())
        for name, value in evaluation.constraints.items():
            trial.set_constraint(name, value)
        if evaluation.record.stopped and len(self._study.directions) == 1:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, list(evaluation.values))

    def _finished(self) -> list[TrialRecord]:
        with _storage_errors(self._path):
            trials = self._study.get_trials(deepcopy=False, states=_DONE)
        try:
            return [TrialRecord.from_dict(trial.user_attrs[_RECORD]) for trial in trials]
        except (KeyError, TypeError) as error:
            problem = f"{self._path.name} holds trials that lanefit did not write: {error}"
            raise InputError(problem, where=str(self._path), hint="start a new search") from error

    def _fail_running(self) -> None:
        with _storage_errors(self._path):
            for trial in self._running():
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


@contextmanager
def open_study(
    path: Path, *, sampler: str, directions: Sequence[Direction], seed: int, pruner: str = "median"
) -> Iterator[Study]:
    """The study in the SQLite file at `path`, created when absent, with dead trials marked as failed.

    Raises:
        InputError: when the file cannot be read or written, or is not a study with these directions.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns at every knob that is not always active
    with _storage_errors(path):
        storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 30}})
        _use_write_ahead_log(storage)
        study = optuna.create_study(
            storage=storage,
            study_name=STUDY_NAME,
            directions=directions,
            pruner=make_pruner(pruner),
            load_if_exists=True,
        )
    if study.directions != [StudyDirection[direction.upper()] for direction in directions]:
        found = ", ".join(direction.name.lower() for direction in study.directions)
        raise InputError(f"{path.name} wants to {found}, not {', '.join(directions)}", where=str(path))
    opened = Study(study, storage, path, sampler, seed)
    opened._fail_running()
    try:
        yield opened
    finally:
        opened.close()


def _use_write_ahead_log(storage: RDBStorage) -> None:
    """Halves the time per trial; a kill loses nothing, a power cut at most the last trial."""

    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(storage.engine, "connect", configure)
    storage.engine.dispose()  # connections made so far are without it


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = error.__cause__ or error
        problem = f"cannot read or write {path.name}: {str(cause).splitlines()[0]}"
        hint = "free some space and resume; every finished trial is kept"
        raise InputError(problem, where=str(path), hint=hint) from error
