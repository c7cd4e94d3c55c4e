"""Trials by the thousand: seconds, peak memory, and how long a resume takes.

    python benchmarks/search/scale.py --trials 100000 --json scale.json

Strategy `zero-cost` (latency and MACs alone) on a family and an engine, in a process of its own; then a second process
resumes the finished study with one more generation, from its start to the moment at which the new trials are stored.
The record is read back with Optuna. The estimator is fitted or loaded before the clock starts. Processor seconds stand
beside the seconds of the clock, which a busy machine draws out; those of a resume count from the start of its process.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import finish, parser
from lanefit.estimator.network import NetworkEstimator
from lanefit.models.registry import families, find_task
from lanefit.nas.batch_samplers import BATCH_SAMPLERS, GENERATION
from lanefit.nas.config import SearchConfig
from lanefit.nas.curation import kept_curation
from lanefit.nas.estimators import cached_estimator_path, fit_estimator, open_estimator
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.search import run_search
from lanefit.nas.session import Step
from lanefit.nas.study import STUDY_NAME
from lanefit.nas.workbench import workbench
from lanefit.targets.spec import load_spec

SPAWN = multiprocessing.get_context("spawn")
MEBIBYTE = 2**20


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=100_000)
    arguments.add_argument("--family", default="ibn-classifier")
    arguments.add_argument("--task", default="digits")
    arguments.add_argument("--target", default="ne-256")
    arguments.add_argument("--sampler", default="nsga2", choices=BATCH_SAMPLERS.names())
    arguments.add_argument("--output", type=Path, metavar="DIR", help="keep the run here")
    given = arguments.parse_args()
    config = SearchConfig(
        family=given.family, task=given.task, target=given.target, strategy="zero-cost", sampler=given.sampler,
        objectives=["score", "latency"], trials=given.trials, seed=given.seed,
    )  # fmt: skip
    _estimator(config)
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(config, given.output or Path(scratch) / "run")
    for name, value in figures.items():
        print(f"{name:28}{value}")
    finish(given.json, figures, root=given.seed)


def measure(config: SearchConfig, directory: Path) -> dict[str, Any]:
    """The search, then its resume with one more generation."""
    searched = _in_a_process(config, directory, resume=False)
    longer = config.replaced(trials=config.trials + GENERATION)
    resumed = _in_a_process(longer, directory, resume=True)
    return {
        "trials": config.trials,
        "seconds": round(searched["over"] - searched["ready"], 1),
        "cpu_seconds": round(searched["over_cpu"] - searched["ready_cpu"], 1),
        "peak_mib": round(searched["peak_bytes"] / MEBIBYTE),
        "trials_per_second_first_tenth": searched["first_rate"],
        "trials_per_second_last_tenth": searched["last_rate"],
        "resume_seconds": round(resumed["first_stored"] - resumed["asked"], 1),
        "resume_cpu_seconds": round(resumed["first_stored_cpu"], 1),
        "resume_peak_mib": round(resumed["peak_bytes"] / MEBIBYTE),
        "stored_trials": _stored(directory / "study.db"),
        "database_mib": round((directory / "study.db").stat().st_size / MEBIBYTE),
    }


def _in_a_process(config: SearchConfig, directory: Path, *, resume: bool) -> dict[str, Any]:
    """Times (seconds since the epoch) and memory of one search; `asked` is before its process was started."""
    receiver, sender = SPAWN.Pipe(duplex=False)
    asked = time.time()
    process = SPAWN.Process(target=_search, args=(config, directory, resume, sender))
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        raise SystemExit("the search ended without a result; its messages are above") from None
    process.join()
    return {"asked": asked, **found}


def _search(config: SearchConfig, directory: Path, resume: bool, sender: Connection) -> None:
    kept = kept_curation(RunDirectory(directory).curation) if resume else None
    bench, _ = workbench(config, _estimator(config), load_spec(config.target), kept=lambda _: kept)
    ready, stored, cpu = time.time(), list[tuple[int, float]](), [time.process_time()]

    def progress(step: Step) -> None:
        stored.append((step.done, time.time()))
        cpu.append(time.process_time())

    run_search(config, directory, bench, resume=resume, progress=progress)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tenth = max(2, len(stored) // 10)
    sender.send(
        {
            "ready": ready,
            "over": time.time(),
            "first_stored": stored[0][1],
            "ready_cpu": cpu[0],
            "over_cpu": time.process_time(),
            "first_stored_cpu": cpu[1],
            "peak_bytes": peak_bytes,
            "first_rate": _rate(stored[:tenth]),
            "last_rate": _rate(stored[-tenth:]),
        }
    )


def _rate(stored: list[tuple[int, float]]) -> float:
    (before, began), (after, ended) = stored[0], stored[-1]
    return round((after - before) / (ended - began), 1) if ended > began else 0.0


def _estimator(config: SearchConfig) -> NetworkEstimator:
    spec, family, task = load_spec(config.target), families.get(config.family), find_task(config.task)
    path = cached_estimator_path(spec, family, task)
    return open_estimator(path, spec, lambda: fit_estimator(spec, family, task), print, print)


def _stored(database: Path) -> int:
    """Trials in the study as Optuna counts them."""
    found = optuna.get_all_study_summaries(storage=f"sqlite:///{database}")
    return next(summary.n_trials for summary in found if summary.study_name == STUDY_NAME)


if __name__ == "__main__":
    main()
