"""`lanefit search`: finds the architecture that keeps the accuracy inside the budget."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..common.errors import ConfigError
from .command import command
from .options import BudgetOption, TargetOption
from .output import Output

if TYPE_CHECKING:
    from ..nas.config import SearchConfig

RUNS = Path("runs")


def _option(*names: str, help: str, metavar: str | None = None, **more: Any) -> Any:
    """A setting that a file, LANEFIT_<NAME> in the environment, or the flag can give."""
    variable = "LANEFIT_" + names[0].partition("/")[0].removeprefix("--").upper().replace("-", "_")
    return typer.Option(*names, help=help, metavar=metavar, envvar=variable, show_default=False, **more)


@command
def search(
    output: Output,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="TOML file with the search's settings; flags go over it.",
            show_default=False,
        ),
    ] = None,
    family: Annotated[str, _option("--family", help="Model family to search.", metavar="NAME")] = "",
    task: Annotated[str, _option("--task", help="Task to train on: a name or folder:PATH.", metavar="NAME")] = "",
    target: TargetOption = "",
    budget: BudgetOption = None,
    energy: Annotated[
        str, _option("--energy", help="Estimator of the target's energy, for energy budgets.", metavar="FILE")
    ] = "",
    strategy: Annotated[str, _option("--strategy", help="See `lanefit list strategies`.", metavar="NAME")] = "",
    sampler: Annotated[str, _option("--sampler", help="See `lanefit list samplers`.", metavar="NAME")] = "",
    trials: Annotated[int | None, _option("--trials", help="Architectures to try.", min=1)] = None,
    trainings: Annotated[
        int | None, _option("--trainings", help="Networks to train, of however many are tried.", min=1)
    ] = None,
    train_seconds: Annotated[
        float | None,
        _option("--train-seconds", help="Processor seconds of the search; no training begins that would outlast them."),
    ] = None,
    pruner: Annotated[
        str, _option("--pruner", help="What ends weak trainings: median, halving, hyperband, none.", metavar="NAME")
    ] = "",
    inherit: Annotated[
        bool | None, _option("--inherit/--no-inherit", help="Start trainings from the most similar trained network.")
    ] = None,
    enqueue: Annotated[
        list[str] | None,
        _option("--enqueue", help="Try the architecture in this file first; repeatable.", metavar="FILE"),
    ] = None,
    warm_start: Annotated[
        str, _option("--warm-start", help="Begin with the best of an earlier search.", metavar="RUN")
    ] = "",
    warm_top: Annotated[
        int | None, _option("--warm-top", help="How many of the earlier search are tried first.", min=1)
    ] = None,
    finalists: Annotated[int | None, _option("--finalists", help="Candidates of the last round.", min=1)] = None,
    epochs: Annotated[int | None, _option("--epochs", help="Epochs that finalists train.", min=1)] = None,
    seed: Annotated[
        int | None, _option("--seed", help="Root of all random streams; drawn and stored when absent.", min=0)
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Write to runs/NAME.", show_default=False)] = "",
    directory: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write to DIR.", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUN", help="Continue the search in this run directory.", show_default=False),
    ] = None,
    storage: Annotated[
        str,
        _option("--storage", help="Keep trials in sqlite:///, journal:///, postgresql:// or grpc://.", metavar="URL"),
    ] = "",
    worker: Annotated[
        bool, typer.Option("--worker", help="Join the search in --storage: run trials until all are finished.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings as TOML and stop.")] = False,
) -> int:
    """Search a family for the most accurate network inside a budget on a target.

    Settings: defaults, then --config FILE, then LANEFIT_* variables, then flags. Ctrl-C keeps every finished trial.
    """
    flags = {
        "family": family, "task": task, "target": target, "strategy": strategy, "sampler": sampler,
        "trials": trials, "finalists": finalists, "seed": seed, "energy": energy, "trainings": trainings,
        "train_seconds": train_seconds, "pruner": pruner, "inherit": inherit, "enqueue": enqueue,
        "warm_start": warm_start, "warm_top": warm_top,
    }  # fmt: skip
    if resume is not None and (name or directory or config):
        raise ConfigError(
            "--resume takes its settings from the run", where="--resume", hint="drop --config, --name and --output"
        )
    if worker:
        _check_worker(storage, bool(resume or config or budget or epochs or dry_run or any(flags.values())))
        return _join(output, storage, name, directory)
    settings = resolve_config(_start(config, resume), flags, budget or [], epochs)
    if dry_run:
        output.result(settings.model_dump(), settings.to_toml().rstrip())
        return 0
    place = resume or directory or RUNS / (name or default_name(settings))
    return _search(output, settings, place, storage, resume is not None)


def _check_worker(storage: str, settings: bool) -> None:
    if not storage:
        raise ConfigError("--worker needs the storage of the search that it joins", where="--storage")
    if settings:
        hint = "keep --storage, --name and --output"
        raise ConfigError("--worker takes its settings from the search that it joins", where="--worker", hint=hint)


def _search(output: Output, settings: SearchConfig, place: Path, storage: str, resume: bool) -> int:
    from ..nas.beginning import check_beginning
    from ..nas.curation import kept_curation
    from ..nas.rundir import RunDirectory
    from ..nas.search import check_config, run_search
    from ..nas.storage import parse_place
    from ..nas.workbench import check_settings
    from .search_bench import bar_progress, ready_bench
    from .search_report import search_document, search_tables, write_results

    check_config(settings)
    if not resume:
        check_beginning(settings, check_settings(settings)[0])
    shelf = parse_place(storage) if storage else None
    if RunDirectory(place).record.exists() and not resume:
        hint = f"continue with --resume {place}, or choose another --name"
        raise ConfigError("this directory already holds a search", where=str(place), hint=hint)
    ready = ready_bench(output, settings, kept_curation(RunDirectory(place).curation) if resume else None)
    with bar_progress(output) as progress:
        result = run_search(
            settings,
            place,
            ready.bench,
            storage=shelf,
            resume=resume,
            progress=progress,
            command=["lanefit", *sys.argv[1:]],
            facts=ready.facts,
        )
    files = write_results(place, result, ready.bench, ready.spec)
    document = search_document(place, result, ready.curation, files)
    output.result(document, *search_tables(place, result, ready.curation, files))
    for warning in result.warnings:
        output.warn(warning)
    return 0


def _join(output: Output, storage: str, name: str, directory: Path | None) -> int:
    """Runs trials of a search that another process began; their trained weights go into `directory`."""
    from ..nas.rundir import RunDirectory
    from ..nas.sharing import find_shared, run_worker
    from ..nas.storage import parse_place
    from .search_bench import bar_progress, ready_bench

    place = parse_place(storage)
    shared = find_shared(place, name)
    ready = ready_bench(output, shared.config, shared.curation)
    with tempfile.TemporaryDirectory(prefix="lanefit-worker-") as scratch, bar_progress(output) as progress:
        run = RunDirectory(directory or Path(scratch))
        done = run_worker(shared, place, ready.bench, run, progress=progress, facts=ready.facts)
    document = {"search": shared.name, "storage": place.shown, "trials_here": done, "trials": shared.config.trials}
    output.result(document, f"{done} of the {shared.config.trials} trials of {shared.name} were finished here")
    return 0


def _start(config: Path | None, resume: Path | None) -> SearchConfig:
    """The settings below environment and flags."""
    from ..nas.config import SearchConfig, load_config
    from ..nas.rundir import RunDirectory

    if resume is not None:
        run = RunDirectory(resume)
        if not run.record.exists():
            raise ConfigError("no search to resume here", where=str(resume), hint="start one without --resume")
        return load_config(run.config_file)
    return load_config(config) if config else SearchConfig()


def resolve_config(start: SearchConfig, flags: dict[str, Any], budgets: list[str], epochs: int | None) -> SearchConfig:
    """`start` with everything over it that was given by environment or flag."""
    from ..common.budget import Budget

    Budget.parse(budgets, where="--budget")
    changes = {name: value for name, value in flags.items() if value not in ("", None, [])}
    if budgets:
        given = {name.strip(): value.strip() for name, _, value in (text.partition("=") for text in budgets)}
        changes["budgets"] = {**start.budgets, **given}
    if epochs is not None:
        changes["train"] = {**start.train, "epochs": epochs}
    return start.replaced(**changes)


def default_name(settings: SearchConfig) -> str:
    """The run's name when none is given: family, task and target, without what a file name cannot hold."""
    target = Path(settings.target).stem if settings.target.endswith(".toml") else settings.target
    task = settings.task.partition(":")
    return "-".join((settings.family, Path(task[2]).name if task[2] else task[0], target))
