"""Searches that are killed: nothing is lost, nothing is done twice, and the outcome is the same.

    python benchmarks/search/kill_and_resume.py --points 20 --workers 4 --json kills.json

One process: a search is ended at random moments, half of the time by SIGKILL, half by SIGINT, and resumed each time;
its trials, values, finalists and winner are compared with those of a search that was left alone. A search that ends
before all points are used up is compared and another one begins.

Several processes: `--workers` processes share a storage (a gRPC server on a SQLite file of its own, or `--storage
URL`), `--kills` of them end by SIGKILL at random moments. What was finished before a kill must be there unchanged
afterwards, every trial finished once, and as many as the budget says.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import finish, parser
from lanefit.common.errors import Interrupted
from lanefit.estimator.network import NetworkEstimator
from lanefit.models.registry import families, find_task
from lanefit.nas.claims import INDEX, WORKER
from lanefit.nas.config import SearchConfig
from lanefit.nas.estimators import cached_estimator_path, fit_estimator, open_estimator
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.search import run_search
from lanefit.nas.serving import serve
from lanefit.nas.session import Step
from lanefit.nas.sharing import find_shared, run_worker
from lanefit.nas.storage import Place, open_storage, parse_place
from lanefit.nas.workbench import ModelWorkbench, workbench
from lanefit.targets.spec import load_spec

SPAWN = multiprocessing.get_context("spawn")
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
INTERRUPTED = 130

Trials = dict[int, tuple[Any, ...]]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--points", type=int, default=20, help="interruptions of the single process")
    arguments.add_argument("--workers", type=int, default=4)
    arguments.add_argument("--kills", type=int, default=2, help="workers that are killed")
    arguments.add_argument("--trials", type=int, default=60)
    arguments.add_argument("--strategy", default="hybrid")
    arguments.add_argument("--sampler", default="tpe")
    arguments.add_argument("--target", default="ne-256")
    arguments.add_argument("--storage", metavar="URL", help="shared storage instead of a gRPC server of our own")
    given = arguments.parse_args()
    config = SearchConfig(
        target=given.target, strategy=given.strategy, sampler=given.sampler, trials=given.trials, finalists=2,
        proxies=["naswot", "synflow"], train={"epochs": 1}, seed=given.seed,
    )  # fmt: skip
    _estimator(config)
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as scratch:
        single = interrupted(config, given.points, Path(scratch), chance)
        with _served(Path(scratch), given.storage) as place:
            shared = shared_by_workers(config, given.workers, given.kills, place, Path(scratch), chance)
    for part, figures in (("one process", single), ("several", shared)):
        for name, value in figures.items():
            print(f"{part:14}{name:34}{value}")
    finish(given.json, {"single": single, "shared": shared}, root=given.seed)
    raise SystemExit(0 if single["equal"] and shared["exact"] else 1)


def interrupted(config: SearchConfig, points: int, scratch: Path, chance: random.Random) -> dict[str, Any]:
    """The search left alone, then the same search ended at `points` random moments."""
    whole, moments = scratch / "whole", Counter[str]()
    begun = time.monotonic()
    seconds = _sitting(config, whole, None, None)
    expected, equal, searches = _outcome(whole), True, 0
    while sum(moments.values()) < points:
        searches += 1
        place = scratch / f"ended-{searches}"
        while (record := _status(place)) != "done":
            left = points - sum(moments.values())
            after = chance.uniform(0, 2 * seconds / (points + 1)) if left else None
            kind = chance.choice([signal.SIGKILL, signal.SIGINT])
            if _sitting(config, place, after, kind) < 0 and _status(place) != "done":
                moments[f"{kind.name} in {record}"] += 1
        equal &= _outcome(place) == expected
    return {
        "points": sum(moments.values()),
        "moments": dict(moments),
        "searches": searches,
        "trials": config.trials,
        "equal": equal,
        "uninterrupted_seconds": round(seconds, 1),
        "total_seconds": round(time.monotonic() - begun, 1),
    }


def shared_by_workers(
    config: SearchConfig, workers: int, kills: int, place: Place, scratch: Path, chance: random.Random
) -> dict[str, Any]:
    """The search by several processes, the first of which began it; any of them may be killed."""
    directory, begun = scratch / f"shared-{os.getpid()}-{config.seed}", time.monotonic()
    crew = [_start(_run, config, directory, place)]
    _wait_until(lambda: _is_there(place, directory.name), crew)
    crew += [_start(_join, directory.name, scratch / f"worker-{number}", place) for number in range(1, workers)]
    before: list[Trials] = []
    for threshold in sorted(chance.uniform(0.1, 0.8) * config.trials for _ in range(kills)):
        _wait_until(lambda least=threshold: len(_finished(place, directory.name)) >= least, crew)
        time.sleep(chance.uniform(0, 0.5))
        before.append(_finished(place, directory.name))
        victim = chance.choice([process for process in crew if process.is_alive()])
        victim.kill()
        victim.join()
    for process in crew:
        process.join()
    _start(_run, config, directory, place).join()  # concludes if the first process was killed; else nothing is left
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
        "trials_per_worker": sorted(Counter(trial[1] for trial in after.values()).values()),
        "given_to_another": _failed(place, directory.name),
        "concluded": concluded,
        "exact": concluded and not lost and not twice and sorted(times) == list(range(config.trials)),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _sitting(config: SearchConfig, place: Path, after: float | None, kind: signal.Signals | None) -> float:
    """Seconds that a process worked on the search, or -1 when it was ended `after` so many seconds of work."""
    ready = SPAWN.Event()
    process = SPAWN.Process(target=_run, args=(config, place, None, ready))
    process.start()
    while process.is_alive() and not ready.wait(0.05):
        pass
    began = time.monotonic()
    process.join(after)
    if process.is_alive() and kind is not None and process.pid is not None:
        os.kill(process.pid, kind)
        process.join()
    if process.exitcode not in (0, INTERRUPTED, -signal.SIGKILL, -signal.SIGINT):  # the last: while it was leaving
        raise SystemExit(f"the search failed with {process.exitcode}; its messages are above")
    return time.monotonic() - began if process.exitcode == 0 else -1.0


def _run(config: SearchConfig, directory: Path, place: Place | None, ready: Event | None = None) -> None:
    """Begins or resumes the search in `directory`."""
    bench, there = _bench(config), (directory / "run.json").exists()
    if ready is not None:
        ready.set()
    try:
        run_search(config, directory, bench, storage=place, resume=there)
    except Interrupted:
        sys.exit(INTERRUPTED)


def _join(name: str, directory: Path, place: Place) -> None:
    shared = find_shared(place, name)
    run_worker(shared, place, _bench(shared.config), RunDirectory(directory), progress=_silent, facts=shared.facts)


def _start(function: Callable[..., None], *arguments: object) -> SpawnProcess:
    process = SPAWN.Process(target=function, args=arguments)
    process.start()
    return process


def _silent(step: Step) -> None:
    """Progress that nobody watches."""


def _bench(config: SearchConfig) -> ModelWorkbench:
    return workbench(config, _estimator(config), load_spec(config.target))[0]


def _estimator(config: SearchConfig) -> NetworkEstimator:
    spec, family, task = load_spec(config.target), families.get(config.family), find_task(config.task)
    path = cached_estimator_path(spec, family, task)
    return open_estimator(path, spec, lambda: fit_estimator(spec, family, task), print, print)


def _outcome(directory: Path) -> tuple[Any, ...]:
    """Everything that a search found: its results, and its finished trials as Optuna has them."""
    with open_storage(parse_place(directory / "study.db")) as storage:
        study = optuna.load_study(study_name="search", storage=storage)
        stored = [(t.state, t.params, t.values, t.constraints) for t in study.get_trials(states=DONE)]
    return RunDirectory(directory).read()["results"], stored


def _status(directory: Path) -> str:
    """What a process that is started now has before it."""
    record = directory / "run.json"
    return str(json.loads(record.read_text(encoding="utf-8"))["status"]) if record.exists() else "new"


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


def _trials(place: Place, name: str) -> list[optuna.trial.FrozenTrial]:
    with open_storage(place) as storage:
        return optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)


def _is_there(place: Place, name: str) -> bool:
    with open_storage(place) as storage:
        studies = optuna.get_all_study_summaries(storage=storage)
    return any(study.study_name == name and study.user_attrs for study in studies)


def _wait_until(true: Callable[[], bool], crew: list[SpawnProcess]) -> None:
    while not true():
        if not any(process.is_alive() for process in crew):
            raise SystemExit("all workers ended before their time; use more --trials")
        time.sleep(0.2)


@contextmanager
def _served(scratch: Path, url: str | None) -> Iterator[Place]:
    """The storage at `url`, or a gRPC server on a SQLite file."""
    if url is not None:
        yield parse_place(url)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = SPAWN.Process(target=serve, args=(parse_place(scratch / "served.db"), "127.0.0.1", port))
    server.start()
    try:
        yield parse_place(f"grpc://127.0.0.1:{port}")
    finally:
        server.kill()
        server.join()


if __name__ == "__main__":
    main()
