"""The search that `kill_and_resume.py` ends again and again, and the processes that work on it."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerProcess
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

from lanefit.common.errors import Interrupted
from lanefit.estimator.network import NetworkEstimator
from lanefit.models.registry import families, find_task
from lanefit.nas.config import SearchConfig
from lanefit.nas.curation.files import curated_config
from lanefit.nas.estimators import cached_estimator_path, fit_estimator, open_estimator
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.search import run_search
from lanefit.nas.session import Step
from lanefit.nas.sharing import find_shared, run_worker
from lanefit.nas.storage import Place
from lanefit.nas.workbench import ModelWorkbench, workbench
from lanefit.targets.spec import load_spec

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["lanefit.nas.workbench", "lanefit.nas.sharing", "lanefit.nas.strategies.hybrid"])
INTERRUPTED = 130
STAGES = ("begin", "screen", "supernet", "train")
IMAGES = 256  # that a training sees: what is tested is kills, not accuracy
BUDGET = "300us"  # some candidates are outside of it


def settings(target: str, strategy: str, trials: int, seed: int) -> SearchConfig:
    """A search in the curated space, which is written out: no sitting curates anew."""
    config = SearchConfig(
        target=target, strategy=strategy, trials=trials, finalists=2, seed=seed, budgets={"latency": BUDGET},
        proxies=["naswot", "synflow"], train={"epochs": 1, "limit": IMAGES},
    )  # fmt: skip
    curated = curated_config(bench_of(config).space)
    return config.replaced(knobs=curated.knobs, curate=False, ordered=curated.ordered)


def bench_of(config: SearchConfig) -> ModelWorkbench:
    return workbench(config, _estimator(config.target, config.family, config.task), load_spec(config.target))[0]


@cache
def _estimator(target: str, family_name: str, task_name: str) -> NetworkEstimator:
    spec, family, task = load_spec(target), families.get(family_name), find_task(task_name)
    path = cached_estimator_path(spec, family, task)
    return open_estimator(path, spec, lambda: fit_estimator(spec, family, task), print, print)


def start(function: Callable[..., None], *arguments: object) -> ForkServerProcess:
    process = PROCESSES.Process(target=function, args=arguments)
    process.start()
    return process


def sit(
    config: SearchConfig,
    directory: Path,
    place: Place | None = None,
    ready: Event | None = None,
    stage: Synchronized[int] | None = None,
) -> None:
    """Begins or resumes the search in `directory`; tells when it begins to work, and in which stage it is."""
    bench, there = bench_of(config), (directory / "run.json").exists()

    def progress(step: Step) -> None:
        if stage is not None:
            stage.value = STAGES.index(step.stage)

    if ready is not None:
        ready.set()
    try:
        run_search(config, directory, bench, storage=place, resume=there, progress=progress)
    except Interrupted:
        sys.exit(INTERRUPTED)


def join(name: str, directory: Path, place: Place) -> None:
    """Works on the search `name` in `place` until its trials are finished."""
    shared = find_shared(place, name)
    run = RunDirectory(directory)
    run_worker(shared, place, bench_of(shared.config), run, progress=_silent, facts=shared.facts)


def _silent(step: Step) -> None:
    """Progress that nobody watches."""
