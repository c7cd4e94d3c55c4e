"""Searches that are killed: nothing is lost, nothing is done twice, and the outcome is the same.

    python benchmarks/search/kill_and_resume.py --points 20 --workers 4 --json kills.json

One process: a search is ended at random moments (after up to as many seconds as it takes undisturbed), half of the
time by SIGKILL, half by SIGINT, and resumed each time; its trials, values, finalists and winner are compared with those
of a search that was left alone. A search that ends before all points are used up is compared and another one begins.

Several processes: `--workers` processes share a storage, `--kills` of them end by SIGKILL at random moments. What was
finished before a kill must be there unchanged afterwards, every trial finished once, and as many as the budget says.
Storages: a gRPC server on a SQLite file of its own and, where it is installed, a PostgreSQL server of its own; or
`--storage URL`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from killed_search import INTERRUPTED, PROCESSES, STAGES, settings, sit
from killed_workers import DONE, given_storage, own_servers, shared_by_workers

from common import finish, parser
from lanefit.nas.config import SearchConfig
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.storage import open_storage, parse_place


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--points", type=int, default=20, help="interruptions of the single process; 0 for none")
    arguments.add_argument("--workers", type=int, default=4, help="processes of one search; 0 for none")
    arguments.add_argument("--kills", type=int, default=2, help="workers that are killed")
    arguments.add_argument("--trials", type=int, default=30)
    arguments.add_argument("--strategy", default="hybrid")
    arguments.add_argument("--target", default="ne-256")
    arguments.add_argument("--storage", metavar="URL", help="shared storage instead of servers of our own")
    given = arguments.parse_args()
    config = settings(given.target, given.strategy, given.trials, given.seed)
    found: dict[str, Any] = {"single": {}, "shared": []}
    with tempfile.TemporaryDirectory() as name:
        scratch, chance = Path(name), random.Random(given.seed)
        if given.points:
            found["single"] = _shown(interrupted(config, given.points, scratch, chance), "one process")
        makers = [lambda _: given_storage(given.storage)] if given.storage else own_servers()
        for served in makers if given.workers else ():
            with served(scratch) as place:
                shared = shared_by_workers(config, given.workers, given.kills, place, scratch, chance)
                found["shared"].append(_shown(shared, "several"))
    finish(given.json, found, root=given.seed)
    right = found["single"].get("equal", True) and all(shared["exact"] for shared in found["shared"])
    raise SystemExit(0 if right else 1)


def interrupted(config: SearchConfig, points: int, scratch: Path, chance: random.Random) -> dict[str, Any]:
    """The search left alone, then the same search ended at `points` random moments."""
    whole, moments = scratch / "whole", Counter[str]()
    begun = time.monotonic()
    seconds = typical = _sitting(config, whole, None, None)[0] or 0.0
    expected, equal, searches = _outcome(whole), True, 0
    while sum(moments.values()) < points:
        searches += 1
        place = scratch / f"ended-{searches}"
        while _status(place) != "done":
            left, fresh = points - sum(moments.values()), _status(place) == "new"
            after = chance.uniform(0, typical) if left else None
            kind = chance.choice([signal.SIGKILL, signal.SIGINT])
            lasted, stage = _sitting(config, place, after, kind)
            if lasted is None and _status(place) != "done":
                moments[f"{kind.name} in {stage}"] += 1
            if lasted is not None and fresh:
                typical = lasted  # the machine may have become faster or slower meanwhile
        equal &= _outcome(place) == expected
    return {
        "points": sum(moments.values()),
        "moments": dict(sorted(moments.items())),
        "searches": searches,
        "trials": config.trials,
        "equal": equal,
        "uninterrupted_seconds": round(seconds, 1),
        "total_seconds": round(time.monotonic() - begun, 1),
    }


def _sitting(
    config: SearchConfig, place: Path, after: float | None, kind: signal.Signals | None
) -> tuple[float | None, str]:
    """Seconds that a process worked on the search, None when it was ended after `after` of them; and its last stage."""
    ready, stage = PROCESSES.Event(), PROCESSES.Value("i", 0)
    process = PROCESSES.Process(target=sit, args=(config, place, None, ready, stage))
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
    return (time.monotonic() - began if process.exitcode == 0 else None), STAGES[stage.value]


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


def _shown(figures: dict[str, Any], part: str) -> dict[str, Any]:
    for name, value in figures.items():
        print(f"{part:14}{name:34}{value}", flush=True)
    return figures


if __name__ == "__main__":
    main()
