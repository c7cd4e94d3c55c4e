"""Who runs which trial, with workers that die, return from the dead, and choose the same index at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from lanefit.common.errors import InputError
from lanefit.nas.claims import INDEX, MAX_ATTEMPTS, SharedClaims
from lanefit.nas.workers import Pulse, Watch, Worker, is_gone, this_worker

TOTAL = 6


class Party:
    """A study in memory and workers that exist in name only."""

    def __init__(self, workers: int = 3, storage: InMemoryStorage | None = None) -> None:
        self.storage = storage or InMemoryStorage()
        self.study = optuna.create_study(storage=self.storage)
        self.silent = Watch(grace=0.0)
        self.claims = [self.join(number) for number in range(workers)]

    def join(self, number: int, watch: Watch | None = None) -> SharedClaims:
        worker = Worker("elsewhere", 100 + number, "0")
        return SharedClaims(self.storage, self.study._study_id, worker, watch or Watch(grace=1e9), _never_wait)

    def take(self, number: int, total: int = TOTAL) -> tuple[Trial, int] | None:
        return self.claims[number].take(total, lambda index: self.study)

    def finished(self) -> Counter[int]:
        done = (TrialState.COMPLETE,)
        return Counter(trial.user_attrs[INDEX] for trial in self.study.get_trials(states=done))


class Waited(Exception):
    """A worker found nothing to do."""


def _never_wait(_: float) -> None:
    raise Waited


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["finish", "die", "die and return", "leave"])), max_size=8)
)
def test_every_index_is_finished_exactly_once_whoever_dies(events: list[tuple[int, str]]) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    party, ghosts = Party(), list[Trial]()
    for number, event in [*events, *[(0, "finish")] * 2 * TOTAL]:
        taken = _take_or_bury(party, number)
        if taken is None:
            break
        trial, _ = taken
        match event:
            case "finish":
                party.study.tell(trial, 1.0)
            case "leave":
                party.claims[number].release()
            case "die and return":
                ghosts.append(trial)
            case _:
                pass
        for ghost in ghosts:
            _finish_late(party.study, ghost)
    assert party.finished() == Counter(range(TOTAL))


def _take_or_bury(party: Party, number: int) -> tuple[Trial, int] | None:
    """A claim; when all that is left runs at workers that died, they are found out first."""
    for _ in range(20):
        try:
            return party.take(number)
        except (Waited, InputError):
            for trial in party.study.get_trials(states=(TrialState.RUNNING,)):
                party.study.tell(trial.number, state=TrialState.FAIL)
    return None


def _finish_late(study: optuna.Study, ghost: Trial) -> None:
    if study.trials[ghost.number].state is TrialState.FAIL:
        with pytest.raises((UpdateFinishedTrialError, ValueError)):
            study.tell(ghost, 2.0)


def test_of_two_claims_for_one_index_the_earlier_stands() -> None:
    class Crowded(InMemoryStorage):
        """Another worker is always a moment faster."""

        rival: Callable[[], Any] | None = None

        def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
            rival, self.rival = self.rival, None
            if rival is not None:
                rival()
            return super().create_new_trial(study_id, template_trial)

    storage = Crowded()
    party = Party(2, storage)
    storage.rival = lambda: party.take(1, total=2)
    taken = party.take(0, total=2)
    assert taken is not None
    running = [trial.user_attrs[INDEX] for trial in party.study.get_trials(states=(TrialState.RUNNING,))]
    assert sorted(running) == [0, 1]
    assert [trial.state for trial in party.study.trials].count(TrialState.FAIL) == 1


def test_a_trial_whose_worker_fell_silent_is_given_to_another_with_the_same_index() -> None:
    party = Party(1)
    first = party.take(0, total=1)
    heir = party.join(1, Watch(grace=0.0))
    with pytest.raises(Waited):
        heir.take(1, lambda index: party.study)
    second = heir.take(1, lambda index: party.study)
    assert first is not None
    assert second is not None
    assert (first[1], second[1]) == (0, 0)
    assert party.study.trials[first[0].number].state is TrialState.FAIL


def test_a_candidate_that_ends_every_worker_is_given_up_with_its_number() -> None:
    party = Party(1)
    for _ in range(MAX_ATTEMPTS):
        assert party.take(0, total=1) is not None
        party.claims[0].release()
    with pytest.raises(InputError, match="trial 0 ended 10 times"):
        party.take(0, total=1)


def test_values_that_a_person_enqueued_are_taken_up_and_survive_a_retry() -> None:
    party = Party(1)
    party.study.enqueue_trial({"x": 3})
    for _ in range(2):
        taken = party.take(0, total=1)
        assert taken is not None
        assert taken[0].suggest_int("x", 0, 9) == 3
        party.claims[0].release()


def test_silence_counts_only_while_somebody_looks() -> None:
    now = [0.0]
    watch = Watch(grace=30.0, pulse=5.0, clock=lambda: now[0])
    looks = []
    for later in (0.0, 3600.0, 3605.0, 3610.0, 3615.0, 3620.0, 3700.0):
        now[0] = later
        looks.append(watch.lapsed(1, None))
    assert looks == [False, False, False, False, False, True, True]
    assert not watch.lapsed(1, 1)


def test_a_process_is_known_to_be_gone_only_on_its_own_machine() -> None:
    me = this_worker()
    assert Worker.parse(str(me)) == me
    assert not is_gone(me)
    assert is_gone(Worker(me.machine, me.pid, "another birth"))
    assert not is_gone(Worker("another machine", 2**22 + 1, "0"))


def test_a_sign_of_life_that_cannot_be_given_ends_quietly() -> None:
    given_signs: list[int] = []

    def beat(count: int) -> None:
        given_signs.append(count)
        raise UpdateFinishedTrialError

    with Pulse(beat, seconds=0.001) as pulse:
        pulse._thread.join(timeout=60)
    assert given_signs == [1]
