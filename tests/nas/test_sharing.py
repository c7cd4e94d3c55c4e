"""Several processes on one search: they share trials, survive each other's death, and agree on what they cost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from nas_fakes import FakeBench, toy_config
from optuna.trial import TrialState

from lanefit.common.errors import ConfigError, InputError
from lanefit.models.architecture import Architecture
from lanefit.nas.claims import INDEX
from lanefit.nas.results import TrialRecord
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.search import run_search
from lanefit.nas.sharing import find_shared, run_worker
from lanefit.nas.storage import Place, open_storage, parse_place

FORK = multiprocessing.get_context("fork")


class KillingBench(FakeBench):
    """Ends the process in the middle of its `kill_at`-th trial."""

    kill_at = 3

    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        if self.scored == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(architecture, seed)


def _join(place: Place, directory: Path, bench: FakeBench) -> None:
    shared = find_shared(place)
    run_worker(shared, place, bench, RunDirectory(directory), progress=lambda step: None, facts=shared.facts)


def _began(place: Place, directory: Path) -> None:
    """A search in `place` whose first process left after two trials."""
    with pytest.raises(InputError, match="enough"):
        run_search(toy_config(), directory, _LeavingBench(), storage=place)


class _LeavingBench(FakeBench):
    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        if self.scored == 14:  # 12 of them for the units of scores
            raise InputError("enough")
        return super().score(architecture, seed)


def _finished(place: Place, name: str) -> list[int]:
    with open_storage(place) as storage:
        study = optuna.load_study(study_name=name, storage=storage)
        trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [trial.user_attrs[INDEX] for trial in trials]


@pytest.fixture(params=["sqlite", "journal"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return parse_place(f"{request.param}:///{tmp_path}/shared")


def test_trials_of_killed_workers_are_done_again_and_the_first_process_concludes(place: Place, tmp_path: Path) -> None:
    _began(place, tmp_path / "run")
    workers = [
        FORK.Process(target=_join, args=(place, tmp_path / f"worker{number}", bench))
        for number, bench in enumerate([FakeBench(), KillingBench()])
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=600)
    assert workers[0].exitcode == 0
    assert workers[1].exitcode in (0, -signal.SIGKILL)  # it may come too late to reach its last trial
    result = run_search(None, tmp_path / "run", FakeBench(), resume=True)
    assert Counter(_finished(place, "run")) == Counter(range(16))
    assert [trial.index for trial in result.trials] == list(range(16))
    assert result.winner is not None
    assert not (tmp_path / "run" / "study.db").exists()


def test_one_process_on_a_shared_storage_finds_what_it_finds_alone(place: Place, tmp_path: Path) -> None:
    alone = run_search(toy_config(), tmp_path / "alone", FakeBench())
    assert run_search(toy_config(), tmp_path / "shared-run", FakeBench(), storage=place) == alone


def test_a_worker_with_another_estimator_is_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="enough"):
        run_search(toy_config(), tmp_path / "run", _LeavingBench(), storage=place, facts={"estimator_data": "abc"})
    shared = find_shared(place)
    with pytest.raises(ConfigError, match="estimator_data differ"):
        run_worker(
            shared, place, FakeBench(), RunDirectory(tmp_path), progress=print, facts={"estimator_data": "other"}
        )


def test_joining_names_what_there_is_to_join(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no search to join") as caught:
        find_shared(place)
    assert "without --worker" in caught.value.hint
    for name in ("first", "second"):
        _began(place, tmp_path / name)
    with pytest.raises(ConfigError, match="2 searches") as caught:
        find_shared(place)
    assert caught.value.hint == "name one of first, second"
    assert find_shared(place, "second").config == toy_config()
    with pytest.raises(ConfigError, match="no search 'third'"):
        find_shared(place, "third")


def test_a_storage_with_another_search_of_that_name_is_refused(place: Place, tmp_path: Path) -> None:
    _began(place, tmp_path / "a" / "run")
    with pytest.raises(ConfigError, match="another search called run"):
        run_search(toy_config(seed=8), tmp_path / "b" / "run", FakeBench(), storage=place)


def test_a_resume_elsewhere_than_where_the_trials_are_is_refused(place: Place, tmp_path: Path) -> None:
    _began(place, tmp_path / "run")
    with pytest.raises(ConfigError, match="trials of this search are kept in"):
        run_search(None, tmp_path / "run", FakeBench(), resume=True, storage=parse_place("grpc://host:5"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Place]:
    """A gRPC server on a SQLite file, in a process of its own."""
    pytest.importorskip("grpc", reason="gRPC is not installed")
    from lanefit.nas.serving import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(parse_place(tmp_path / "served.db"), "127.0.0.1", port), daemon=True
    )
    process.start()
    yield parse_place(f"grpc://127.0.0.1:{port}")
    process.kill()
    process.join()


def test_a_search_through_a_grpc_server_finds_what_it_finds_alone(server: Place, tmp_path: Path) -> None:
    alone: list[TrialRecord] = list(run_search(toy_config(), tmp_path / "alone", FakeBench()).trials)
    result = run_search(toy_config(), tmp_path / "run", FakeBench(), storage=server)
    assert list(result.trials) == alone
    assert sorted(_finished(server, "run")) == list(range(16))
