"""`lanefit report`: one HTML page about a search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..common.errors import InputError, LanefitError
from .command import command
from .output import Output
from .tables import pairs

if TYPE_CHECKING:
    from ..models.architecture import Architecture
    from ..models.layers import LayerSpec
    from ..nas.report.network import NetworkSketch
    from ..nas.report.relief import Relief
    from ..nas.report.source import Source
    from ..nas.results import SearchResult

PAGE = "report.html"
_BASELINES = {"ibn-classifier": "mobilenet-v2"}  # by family; the middle of its knobs for any other


@command
def report(
    output: Output,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory of a search.", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to FILE; RUN/report.html by default."),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline", metavar="MODEL", help="What the winner is drawn against; MobileNetV2 or the family's middle."
        ),
    ] = "",
    storage: Annotated[
        str, typer.Option("--storage", metavar="URL", help="Where the trials are, if that needs a password.")
    ] = "",
) -> int:
    """Write one HTML page about a search, finished or not: fronts, history, importance, winner, budgets."""
    from ..nas.report.sections import Extras
    from ..nas.report.source import read_source
    from ..nas.report.write import write_report
    from ..nas.storage import parse_place

    source = read_source(run, parse_place(storage) if storage else None)
    networks, no_networks = _networks(output, source, baseline)
    found, no_relief = _relief(source)
    path = file or run / PAGE
    parts = write_report(source, path, Extras(networks, no_networks, found, no_relief))
    missing = {part.key: part.missing for part in parts if part.missing}
    drawn = [part.key for part in parts if not part.missing]
    document = {"run": str(run), "file": str(path), "status": source.status, "figures": drawn, "missing": missing}
    rows = [("file", str(path)), ("search", source.status), ("figures", ", ".join(drawn))]
    output.result(document, pairs(rows + [(f"no {key}", why) for key, why in missing.items()]))
    return 0


def _networks(output: Output, source: Source, baseline: str) -> tuple[tuple[NetworkSketch, ...], str]:
    """Baseline and winner, compiled, or why not. Only a baseline that was asked for by name may fail the report."""
    from ..nas.report.network import sketch_network
    from ..targets.spec import load_spec

    shown = _subject(source.result)
    if shown is None:
        return (), "No candidate could be costed, so there is no network to draw."
    asked = _layers(baseline, source) if baseline else None
    try:
        spec = load_spec(source.config.target)
        winner = sketch_network(shown[0], _layers_of(shown[1], source), spec)
        name = baseline or _BASELINES.get(source.config.family, source.config.family)
        layers = asked or _layers(name, source)
    except LanefitError as error:
        return (), f"The winner cannot be compiled here: {error}."
    try:
        return (sketch_network(name, layers, spec), winner), ""
    except LanefitError as error:
        output.warn(f"{name} is not drawn: {error}")
        return (winner,), ""


def _relief(source: Source) -> tuple[Relief, str]:
    """The landscape by the estimator that the search left in the cache; a report fits none, which takes minutes."""
    from ..estimator.network import NetworkEstimator
    from ..models.registry import families, find_task
    from ..nas.curation import engine_costs
    from ..nas.estimators import cached_estimator_path
    from ..nas.report.relief import relief
    from ..targets.spec import load_spec

    config = source.config
    try:
        spec, task = load_spec(config.target), find_task(config.task)
        estimator = NetworkEstimator.load(cached_estimator_path(spec, families.get(config.family), task), spec)
        return relief(config, source.run.get("facts", {}).get("curation"), engine_costs(spec, estimator), task), ""
    except LanefitError as error:
        hint = f"`lanefit curate {config.family} --target {config.target}` fits and keeps one"
        return (), f"There is no estimator here to draw it with: {error.what}; {hint}."


def _subject(result: SearchResult) -> tuple[str, Architecture] | None:
    """The winner, or whatever came nearest to the budget."""
    if result.winner is not None:
        return f"winner (trial {result.winner.trial.index})", result.winner.architecture
    costed = [trial for trial in result.trials if trial.cost is not None]
    if not costed:
        return None
    feasible = [trial for trial in costed if trial.feasible]
    if feasible:
        best = max(feasible, key=lambda trial: trial.values[0])
        return f"best so far (trial {best.index})", best.architecture
    nearest = min(costed, key=lambda trial: (trial.verdict.excess, trial.index))
    return f"nearest miss (trial {nearest.index})", nearest.architecture


def _layers(name: str, source: Source) -> tuple[LayerSpec, ...]:
    from .model_argument import resolve

    model = resolve(name, task=source.config.task)
    if model.architecture is None:
        raise InputError(f"{name} is not an architecture", where="--baseline", hint="name a family or a *.toml file")
    return model.layers()


def _layers_of(architecture: Architecture, source: Source) -> tuple[LayerSpec, ...]:
    from ..models.registry import families, find_task

    task = find_task(source.config.task)
    family = families.get(architecture.family)
    return family.layers(architecture, input_channels=task.channels, classes=task.classes)
