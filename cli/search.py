"""`lanefit search`: finds the architecture that keeps the accuracy inside the budget."""

from __future__ import annotations

import sys
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
    variable = "LANEFIT_" + names[0].removeprefix("--").upper().replace("-", "_")
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
    strategy: Annotated[str, _option("--strategy", help="See `lanefit list strategies`.", metavar="NAME")] = "",
    sampler: Annotated[str, _option("--sampler", help="See `lanefit list samplers`.", metavar="NAME")] = "",
    trials: Annotated[int | None, _option("--trials", help="Architectures to try.", min=1)] = None,
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings as TOML and stop.")] = False,
) -> int:
    """Search a family for the most accurate network inside a budget on a target.

    Settings: defaults, then --config FILE, then LANEFIT_* variables, then flags. Ctrl-C keeps every finished trial.
    """
    flags = {
        "family": family, "task": task, "target": target, "strategy": strategy, "sampler": sampler,
        "trials": trials, "finalists": finalists, "seed": seed,
    }  # fmt: skip
    if resume is not None and (name or directory or config):
        raise ConfigError(
            "--resume takes its settings from the run", where="--resume", hint="drop --config, --name and --output"
        )
    settings = resolve_config(_start(config, resume), flags, budget or [], epochs)
    if dry_run:
        output.result(settings.model_dump(), settings.to_toml().rstrip())
        return 0
    place = resume or directory or RUNS / (name or default_name(settings))
    return _search(output, settings, place, resume is not None)


def _search(output: Output, settings: SearchConfig, place: Path, resume: bool) -> int:
    from ..models.registry import families, find_task
    from ..nas.measure import engine_measure
    from ..nas.rundir import RunDirectory
    from ..nas.search import check_config, run_search
    from ..nas.session import Step
    from ..nas.workbench import check_settings, workbench
    from ..targets.spec import load_spec
    from .estimators import ready_estimator
    from .search_report import search_document, search_tables, write_results

    check_config(settings)
    check_settings(settings)
    spec, family, task = load_spec(settings.target), families.get(settings.family), find_task(settings.task)
    run = RunDirectory(place)
    if run.record.exists() and not resume:
        hint = f"continue with --resume {place}, or choose another --name"
        raise ConfigError("this directory already holds a search", where=str(place), hint=hint)
    estimator = ready_estimator(output, spec, family, task)
    bench, curation = workbench(settings, estimator, spec, measure=engine_measure(spec))
    facts: dict[str, Any] = {"target_digest": spec.digest(), "estimator_data": estimator.card.data_hash}
    if curation is not None:
        facts["curation"] = curation.as_dict()
    with output.bar("search") as update:

        def progress(step: Step) -> None:
            update(step.done, step.total, f"{step.stage}: {step.text}")

        arguments = ["lanefit", *sys.argv[1:]]
        result = run_search(settings, place, bench, resume=resume, progress=progress, command=arguments, facts=facts)
    files = write_results(place, result, bench, spec)
    document = search_document(place, result, curation, files)
    output.result(document, *search_tables(place, result, curation, files))
    for warning in result.warnings:
        output.warn(warning)
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
    changes = {name: value for name, value in flags.items() if value not in ("", None)}
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
