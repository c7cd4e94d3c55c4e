"""Which worker runs which trial: every index of a search is finished once, whoever dies on the way.

A claim is a running trial that carries the index and its worker. Two workers may claim one index; the claim with the
lower number stands, and whoever holds the other one fails it before any work. So at any time one trial at most is at
work for an index: trials appear in the order of their numbers, and a failed one never comes back. A worker that was
taken for dead finds its trial failed and drops what it computed.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ..common.errors import InputError
from .workers import Watch, Worker, is_gone

INDEX, WORKER, PULSE = "index", "worker", "pulse"
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
MAX_ATTEMPTS = 10  # a candidate that ends every process that tries it must not be tried for ever
POLL_SECONDS = 0.5

StudyFor = Callable[[int], optuna.Study]

_LOST = "claimed by another"
_FIXED = "fixed_params"  # Optuna's name for the values that a trial was enqueued with


class Claims(Protocol):
    def take(self, total: int, study_for: StudyFor) -> tuple[Trial, int] | None:
        """A trial for this process and its index below `total`; None when all are finished, by whomever.

        `study_for` gives the study object whose sampler draws the trial of an index.
        """
        ...

    def release(self) -> None:
        """Marks what this process left unfinished as failed."""
        ...


class SoleClaims:
    """For a study that one process has to itself: the index counts finished trials, and whatever runs is dead."""

    def __init__(self, study: optuna.Study, finished: Callable[[], int], running: Callable[[], Iterable[int]]) -> None:
        """`finished` counts, `running` gives the numbers of trials in these states."""
        self._study, self._finished, self._running = study, finished, running
        self.release()

    def take(self, total: int, study_for: StudyFor) -> tuple[Trial, int] | None:
        index = self._finished()
        return (study_for(index).ask(), index) if index < total else None

    def release(self) -> None:
        for number in self._running():
            self._study.tell(number, state=TrialState.FAIL)


class SharedClaims:
    """For a study that other processes may work on at the same time."""

    def __init__(
        self,
        storage: BaseStorage,
        study_id: int,
        worker: Worker,
        watch: Watch | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storage, self._study_id = storage, study_id
        self._worker, self._watch, self._wait = str(worker), watch or Watch(), wait

    def take(self, total: int, study_for: StudyFor) -> tuple[Trial, int] | None:
        enqueued: Mapping[str, Any] | None = None
        while True:
            trials = self._free_lapsed()
            index = self._open_index(trials, total)
            if index is None:
                if _finished(trials, total):
                    return None
                self._wait(POLL_SECONDS)
                continue
            before = _fixed_before(trials, index)
            enqueued = enqueued or (self._enqueued(trials) if before is None else None)
            trial_id = self._claim(index, before or enqueued)
            if trial_id is not None:
                return Trial(study_for(index), trial_id), index

    def release(self) -> None:
        for trial in self._trials():
            if trial.state is TrialState.RUNNING and trial.user_attrs.get(WORKER) == self._worker:
                self._fail(trial)

    def _claim(self, index: int, fixed: Mapping[str, Any] | None) -> int | None:
        """The number under which the storage knows a new trial for `index`; None when an earlier claim stands."""
        template = create_trial(
            state=TrialState.RUNNING,
            user_attrs={INDEX: index, WORKER: self._worker},
            system_attrs={_FIXED: dict(fixed)} if fixed else {},
        )
        trial_id = self._storage.create_new_trial(self._study_id, template)
        mine = self._storage.get_trial(trial_id)
        if mine.number == min(trial.number for trial in self._trials() if _stands(trial, index)):
            return trial_id
        self._storage.set_trial_user_attr(trial_id, _LOST, True)
        self._fail(mine)
        return None

    def _open_index(self, trials: Sequence[FrozenTrial], total: int) -> int | None:
        """An index that nobody runs or has run: one of the first few, so that workers seldom choose the same."""
        taken = {trial.user_attrs.get(INDEX) for trial in trials if trial.state is not TrialState.FAIL}
        running = sum(trial.state is TrialState.RUNNING for trial in trials)
        free: list[int] = []
        for index in range(total):
            if index not in taken:
                free.append(index)
            if len(free) > running:
                break
        if not free:
            return None
        chosen = free[zlib.crc32(self._worker.encode()) % len(free)]
        _check_attempts(trials, chosen)
        return chosen

    def _enqueued(self, trials: Iterable[FrozenTrial]) -> Mapping[str, Any] | None:
        """Takes a trial that somebody enqueued by Optuna's own means out of the queue: its values go into a claim."""
        for trial in trials:
            if trial.state is TrialState.WAITING:
                with suppress(UpdateFinishedTrialError):
                    if self._storage.set_trial_state_values(_id(trial), TrialState.RUNNING):
                        self._fail(trial)
                        return trial.system_attrs.get(_FIXED)
        return None

    def _free_lapsed(self) -> Sequence[FrozenTrial]:
        """All trials, after those whose worker is gone were failed."""
        trials = self._trials()
        lapsed = [trial for trial in trials if trial.state is TrialState.RUNNING and self._has_lapsed(trial)]
        for trial in lapsed:
            self._fail(trial)
        return self._trials() if lapsed else trials

    def _has_lapsed(self, trial: FrozenTrial) -> bool:
        name = trial.user_attrs.get(WORKER, "")
        worker = Worker.parse(name)
        if worker is not None and is_gone(worker):
            return True
        return name != self._worker and self._watch.lapsed(trial.number, trial.user_attrs.get(PULSE))

    def _trials(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    def _fail(self, trial: FrozenTrial) -> None:
        with suppress(UpdateFinishedTrialError):  # somebody else did, or its worker ended it after all
            self._storage.set_trial_state_values(_id(trial), TrialState.FAIL)


def _id(trial: FrozenTrial) -> int:
    return trial._trial_id  # Optuna's storages know trials by it, and nothing public tells it


def _stands(trial: FrozenTrial, index: int) -> bool:
    return trial.user_attrs.get(INDEX) == index and trial.state is not TrialState.FAIL


def _fixed_before(trials: Iterable[FrozenTrial], index: int) -> Mapping[str, Any] | None:
    """The values with which an earlier trial of this index was enqueued: a retry keeps them."""
    claims = (t for t in trials if t.user_attrs.get(INDEX) == index and _LOST not in t.user_attrs)
    return next((t.system_attrs[_FIXED] for t in claims if _FIXED in t.system_attrs), None)


def _finished(trials: Iterable[FrozenTrial], total: int) -> bool:
    done = {trial.user_attrs.get(INDEX) for trial in trials if trial.state in DONE}
    return all(index in done for index in range(total))


def _check_attempts(trials: Iterable[FrozenTrial], index: int) -> None:
    failed = Counter(
        trial.user_attrs.get(INDEX)
        for trial in trials
        if trial.state is TrialState.FAIL and _LOST not in trial.user_attrs
    )
    if failed[index] >= MAX_ATTEMPTS:
        raise InputError(
            f"trial {index} ended {failed[index]} times without a result",
            hint="the workers' logs say why; memory is a frequent cause",
        )
