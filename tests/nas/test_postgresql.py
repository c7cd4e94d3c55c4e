"""Searches whose trials are kept in PostgreSQL, on a server that the tests begin."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from nas_fakes import FakeBench, toy_config
from optuna.trial import TrialState

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "search"))
from local_postgres import find_initdb, local_postgres

from lanefit.common.errors import InputError
from lanefit.models.architecture import Architecture
from lanefit.nas.claims import INDEX
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.search import run_search
from lanefit.nas.sharing import find_shared, run_worker
from lanefit.nas.storage import Place, open_storage, parse_place

FORK = multiprocessing.get_context("fork")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_initdb() is None, reason="initdb was not found: PostgreSQL is not installed"),
]


class _Killing(FakeBench):
    """Ends the process in the middle of its third trial."""

    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        if self.scored == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(architecture, seed)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with local_postgres() as url:
        yield parse_place(url)


def _join(place: Place, name: str, directory: Path, bench: FakeBench) -> None:
    shared = find_shared(place, name)
    run_worker(shared, place, bench, RunDirectory(directory), progress=lambda step: None, facts=shared.facts)


def test_one_process_finds_what_it_finds_alone_and_writes_no_password(place: Place, tmp_path: Path) -> None:
    alone = run_search(toy_config(), tmp_path / "alone", FakeBench())
    assert run_search(toy_config(), tmp_path / "single", FakeBench(), storage=place) == alone
    written = (tmp_path / "single" / "run.json").read_text(encoding="utf-8")
    assert place.shown in written
    assert place.url not in written


def test_trials_of_killed_workers_are_done_again_exactly_once(place: Place, tmp_path: Path) -> None:
    config = toy_config(trials=24)
    first = FORK.Process(target=run_search, args=(config, tmp_path / "crew", _Killing()), kwargs={"storage": place})
    first.start()
    first.join()
    assert first.exitcode == -signal.SIGKILL  # after it had published the search
    benches = [FakeBench(), FakeBench(), _Killing()]
    workers = [
        FORK.Process(target=_join, args=(place, "crew", tmp_path / f"worker{number}", bench))
        for number, bench in enumerate(benches)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers[:2]] == [0, 0]
    result = run_search(None, tmp_path / "crew", FakeBench(), storage=place, resume=True)
    with open_storage(place) as storage:
        done = optuna.load_study(study_name="crew", storage=storage).get_trials(states=(TrialState.COMPLETE,))
    assert Counter(trial.user_attrs[INDEX] for trial in done) == Counter(range(24))
    assert [trial.index for trial in result.trials] == list(range(24))


def test_a_wrong_password_is_an_input_error_without_it(place: Place) -> None:
    wrong = parse_place(place.url.replace("lanefit:", "lanefit:not"))
    with pytest.raises(InputError, match="password authentication failed") as caught, open_storage(wrong):
        pass
    assert "not" + place.url.split(":")[2].partition("@")[0] not in str(caught.value)
