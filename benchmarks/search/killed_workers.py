"""Several processes on one search, some of which end by SIGKILL: what became of the trials."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import optuna
from killed_search import join, sit, start
from local_postgres import find_initdb, local_postgres
from optuna.trial import FrozenTrial, TrialState

from lanefit.nas.claims import INDEX, WORKER
from lanefit.nas.config import SearchConfig
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.serving import serve
from lanefit.nas.storage import Place, open_storage, parse_place

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
POLL_SECONDS = 0.2

Trials = dict[int, tuple[Any, ...]]


def shared_by_workers(
    config: SearchConfig, workers: int, kills: int, place: Place, scratch: Path, chance: random.Random
) -> dict[str, Any]:
    """The search by several processes, the first of which began it; any of them may be killed."""
    directory, begun = scratch / f"{place.scheme}-{os.getpid()}-{config.seed}", time.monotonic()
    name = directory.name
    crew = [start(sit, config, directory, place)]
    _wait_until(lambda: _is_there(place, name), crew)
    crew += [start(join, name, scratch / f"{name}-{number}", place) for number in range(1, workers)]
    before: list[Trials] = []
    for threshold in sorted(chance.uniform(0.1, 0.8) * config.trials for _ in range(kills)):
        _wait_until(lambda least=threshold: len(_finished(place, name)) >= least, crew)
        time.sleep(chance.uniform(0, 0.5))
        before.append(_finished(place, name))
        victim = chance.choice([process for process in crew if process.is_alive()])
        victim.kill()
        victim.join()
    for process in crew:
        process.join()
    start(sit, config, directory, place).join()  # concludes if the first process was killed; else nothing is left
    return _verdict(config, directory, place, before, [process.exitcode for process in crew], begun)


def _verdict(
    config: SearchConfig, directory: Path, place: Place, before: list[Trials], exits: list[int | None], begun: float
) -> dict[str, Any]:
    after = _finished(place, directory.name)
    times = Counter(trial[0] for trial in after.values())
    lost = sum(after.get(number) != trial for snapshot in before for number, trial in snapshot.items())
    twice = sum(count > 1 for count in times.values())
    run = RunDirectory(directory)
    concluded = run.read()["status"] == "done" and len(run.result().trials) == config.trials
    return {
        "storage": place.scheme,
        "budget": config.trials,
        "finished": len(after),
        "finished_lost": lost,
        "finished_twice": twice,
        "killed": sum(code == -signal.SIGKILL for code in exits),
        "failed": sum(code not in (0, -signal.SIGKILL) for code in exits),
        "trials_per_worker": sorted(Counter(trial[1] for trial in after.values()).values()),
        "given_to_another": _failed(place, directory.name),
        "concluded": concluded,
        "exact": concluded and not lost and not twice and sorted(times) == list(range(config.trials)),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _finished(place: Place, name: str) -> Trials:
    """Finished trials by number: index, worker, values, record."""
    found: Trials = {}
    for trial in _trials(place, name):
        if trial.state in DONE:
            record = json.dumps(trial.user_attrs["record"], sort_keys=True)
            found[trial.number] = (trial.user_attrs[INDEX], trial.user_attrs[WORKER], trial.values, record)
    return found


def _failed(place: Place, name: str) -> int:
    failed = [trial for trial in _trials(place, name) if trial.state is TrialState.FAIL]
    return sum("claimed by another" not in trial.user_attrs for trial in failed)


def _trials(place: Place, name: str) -> list[FrozenTrial]:
    with open_storage(place) as storage:
        return optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)


def _is_there(place: Place, name: str) -> bool:
    with open_storage(place) as storage:
        studies = optuna.get_all_study_summaries(storage=storage)
    return any(study.study_name == name and study.user_attrs for study in studies)


def _wait_until(true: Callable[[], bool], crew: list[ForkServerProcess]) -> None:
    while not true():
        if not any(process.is_alive() for process in crew):
            raise SystemExit("all workers ended before their time; use more --trials")
        time.sleep(POLL_SECONDS)


@contextmanager
def grpc_server(scratch: Path) -> Iterator[Place]:
    """A gRPC server on a SQLite file, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start(serve, parse_place(scratch / "served.db"), "127.0.0.1", port)
    try:
        yield parse_place(f"grpc://127.0.0.1:{port}")
    finally:
        server.kill()
        server.join()


@contextmanager
def postgresql_server(_: Path) -> Iterator[Place]:
    """A PostgreSQL server in a temporary folder."""
    with local_postgres() as url:
        yield parse_place(url)


@contextmanager
def given_storage(url: str) -> Iterator[Place]:
    yield parse_place(url)


def own_servers() -> list[Callable[[Path], Any]]:
    """Storages that this machine can serve; without PostgreSQL, gRPC alone."""
    return [grpc_server, *([postgresql_server] if find_initdb() else [])]
