"""`run_search`: one search from configuration to result, in a run directory, resumable at any point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import BudgetError, ConfigError, Interrupted, LanefitError, UnknownNameError
from .beginning import check_beginning
from .config import AUTO, SearchConfig
from .curation import Curated, keep_curation
from .proxies import PROXIES
from .pruning import PRUNERS
from .results import Finalist, SearchResult, nearest_misses
from .rundir import RunDirectory
from .samplers import SAMPLERS
from .scoring import Workbench
from .session import Progress, Session, Step
from .storage import Place
from .strategies import STRATEGIES, Outcome, Strategy
from .study import SHARED_NOTE, STUDY_NAME, Direction, Study, open_study

DEFAULT_SAMPLER = "tpe"
DIRECTIONS: dict[str, Direction] = {"score": "maximize", "latency": "minimize"}


def run_search(
    config: SearchConfig | None,
    directory: Path,
    bench: Workbench,
    *,
    storage: Place | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Searches, and stores everything in `directory`; with `resume`, continues what is stored there.

    A resumed search gives the same trials and the same winner as an undisturbed one. `config` may be None
    when resuming. `facts` are JSON values that the results depend on or that belong beside them (digests of target
    and estimator, curation); a resume with other facts is refused. With `storage` the trials
    are kept there, under the name of the directory, and other processes may join (`sharing.run_worker`).

    Raises:
        BudgetError: when nothing met the budget; shows the nearest misses, and the trials are stored.
        ConfigError: for unusable settings, an occupied directory, or nothing to resume.
        InputError: when the disk is full or the stored study is damaged; finished trials are kept.
        Interrupted: on Ctrl-C, with the command that continues as its hint.
    """
    run = RunDirectory(directory)
    if config is None and not resume:
        raise ConfigError("a new search needs a configuration")
    if config is not None:
        check_config(config)
        if not resume:
            check_beginning(config, bench.space)
    with run.locked():
        known = dict(facts or {})
        if config is None or resume:
            resolved = run.resume(config, command, known, storage)
        else:
            resolved = run.start(config, command, known, storage)
        if isinstance(bench, Curated) and bench.curation is not None:
            keep_curation(run.curation, bench.curation)
        try:
            result = _search(resolved, bench, run, storage, progress or _silent)
        except KeyboardInterrupt:
            stopped = _interrupted(resolved, run)
            run.finish("interrupted", error=stopped)
            raise stopped from None
        except LanefitError as error:
            run.finish("failed", error=error)
            raise
        return _conclude(resolved, run, result)


def check_config(config: SearchConfig) -> Strategy:
    """The strategy of `config`, once every name in it is known and its parts agree."""
    strategy = STRATEGIES.get(config.strategy)
    samplers = [] if config.sampler == AUTO else [config.sampler]
    for registry, names in ((SAMPLERS, samplers), (PROXIES, config.proxies), (PRUNERS, [config.pruner])):
        for name in names:
            if name not in registry:  # asking for the object would import torch
                raise UnknownNameError(registry.kind, name, registry)
    _check_sampler(config, strategy)
    if not strategy.trains:
        _refuse_training(config, strategy)
    return strategy


def sampler_name(config: SearchConfig, strategy: Strategy) -> str:
    """The sampler that draws the trials of a search."""
    return strategy.sampler or (DEFAULT_SAMPLER if config.sampler == AUTO else config.sampler)


def _check_sampler(config: SearchConfig, strategy: Strategy) -> None:
    if config.sampler not in (AUTO, strategy.sampler) and strategy.sampler is not None:
        free = ", ".join(name for name in STRATEGIES if STRATEGIES.get(name).sampler is None)
        problem = f"strategy {strategy.name} chooses its candidates itself, so sampler {config.sampler} has no say"
        raise ConfigError(problem, where="sampler", hint=f"drop it, or use one of {free}")
    if config.sampler == "evolution" and len(config.objectives) > 1:
        hint = "use nsga2, or the score alone"
        raise ConfigError("sampler evolution has one objective only", where="objectives", hint=hint)


def _refuse_training(config: SearchConfig, strategy: Strategy) -> None:
    trained = ", ".join(name for name in STRATEGIES if STRATEGIES.get(name).trains)
    asked = {
        "budgets:accuracy": (config.budget().accuracy, "an accuracy floor cannot be checked"),
        "trainings": (config.trainings, "there is nothing to limit"),
        "train_seconds": (config.train_seconds, "there is nothing to limit"),
    }
    for where, (value, problem) in asked.items():
        if value is not None:
            what = f"strategy {strategy.name} trains nothing, so {problem}"
            raise ConfigError(what, where=where, hint=f"use one of {trained}")


def _search(
    config: SearchConfig, bench: Workbench, run: RunDirectory, storage: Place | None, progress: Progress
) -> SearchResult:
    strategy = check_config(config)
    directions: list[Direction] = [DIRECTIONS[objective] for objective in config.objectives]
    assert config.seed is not None
    elsewhere = run.elsewhere(storage)
    place, name = elsewhere or (run.database, STUDY_NAME)
    with open_study(
        place,
        sampler=sampler_name(config, strategy),
        directions=directions,
        seed=config.seed,
        name=name,
        shared=elsewhere is not None,
        pruner=config.pruner,
    ) as study:
        session = Session(config, bench, study, run, progress)
        if elsewhere:
            _publish(study, config, run, bench)
        outcome = strategy.run(session)
        return _result(session, outcome)


def _publish(study: Study, config: SearchConfig, run: RunDirectory, bench: Workbench) -> None:
    """Leaves in the storage what workers need to know; refuses a storage that holds another search of this name."""
    stored = study.note(SHARED_NOTE)
    if stored is not None:
        earlier = SearchConfig.model_validate(stored["config"])
        differences = earlier.differences(config.replaced(trials=earlier.trials, finalists=earlier.finalists))
        if differences:
            problem = f"the storage holds another search called {run.path.name} ({'; '.join(differences)})"
            raise ConfigError(problem, where="--storage", hint="choose another --name, or join it with --worker")
    known = bench.curation.as_dict() if isinstance(bench, Curated) and bench.curation else None
    note = {"config": config.model_dump(), "facts": run.read()["facts"], "curation": known}
    study.set_note(SHARED_NOTE, note)


def _result(session: Session, outcome: Outcome) -> SearchResult:
    trials, winner = tuple(session.study.records), choose_winner(outcome.finalists)
    misses = () if winner else tuple(nearest_misses(trials, outcome.finalists))
    remarks = (*session.beginning.remarks, *outcome.warnings)
    return SearchResult(
        session.budget, session.seed, trials, outcome.finalists, winner, misses, remarks, session.trained
    )  # fmt: skip


def choose_winner(finalists: Sequence[Finalist]) -> Finalist | None:
    """The most accurate finalist inside the budget, the faster one of equals; untrained ones keep their order."""
    inside = [finalist for finalist in finalists if finalist.verdict.passed]
    return min(inside, key=lambda f: (-(f.accuracy or 0.0), f.cost.latency_us if f.accuracy else 0.0), default=None)


def _conclude(config: SearchConfig, run: RunDirectory, result: SearchResult) -> SearchResult:
    if result.winner is not None:
        run.finish("done", result)
        return result
    error = BudgetError(
        f"none of {len(result.trials)} candidates meets the budget ({result.budget})",
        where=str(run.path),
        hint="; ".join(["nearest misses", *result.misses]),
    )
    run.finish("over-budget", result, error)
    raise error


def _interrupted(config: SearchConfig, run: RunDirectory) -> Interrupted:
    return Interrupted(
        f"stopped; every finished trial of {config.trials} is saved",
        where=str(run.path),
        hint=f"continue with: lanefit search --resume {run.path}",
    )


def _silent(step: Step) -> None:
    """Progress that nobody watches."""
