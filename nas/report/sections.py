"""The sections of the report: for each a figure or what stands in its place, a caption, and the figures as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...common.units import format_us
from ..results import SearchResult, TrialRecord
from .clouds import DrawnPlane, landscape, planes
from .diagram import draw_diagram
from .history import history
from .importance import FEWEST_TRIALS, Value, importance
from .network import Block, NetworkSketch
from .plots import (
    curves_plot,
    history_plot,
    hypervolume_plot,
    importance_plot,
    landscape_plot,
    pareto_plot,
    relief_plot,
)
from .relief import Relief
from .source import Source
from .tables import Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_CURVES = 12
_MOST_ROWS = 50


@dataclass(frozen=True, slots=True)
class Section:
    """`key` is the element's id. `missing` says why there is no figure where there is none."""

    key: str
    title: str
    caption: str = ""
    figure: go.Figure | None = None
    svg: str = ""
    table: Table | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Extras:
    """What a run directory does not hold: compiled networks, baseline first, and the landscape of the space.

    The reasons are said where there are none.
    """

    networks: tuple[NetworkSketch, ...] = ()
    no_networks: str = "Nothing was compiled for this report."
    relief: Relief = ()
    no_relief: str = "Nothing was costed for this report."


def sections(source: Source, extras: Extras = Extras()) -> list[Section]:
    """All of them in the order of the page; what cannot be drawn says so."""
    result = source.result
    return [
        *_pareto(result, extras.networks),
        *_history(result),
        _importance(result, "value", "the value that the search maximised", _feasible, lambda t: t.values[0]),
        _importance(result, "latency", "predicted latency", _costed, _latency),
        _architecture(extras.networks, extras.no_networks),
        _relief(extras.relief, extras.no_relief),
        _landscape(result),
        _curves(result),
    ]


def _pareto(result: SearchResult, networks: Sequence[NetworkSketch]) -> list[Section]:
    found = planes(result)
    if not found:
        missing = "This search gave its candidates neither scores nor accuracies."
        return [Section("pareto", "Pareto front", missing=missing)]
    baseline = (networks[0].title, networks[0].latency_us) if len(networks) == 2 else None
    return [_plane(drawn, baseline) for drawn in found]


def _plane(drawn: DrawnPlane, baseline: tuple[str, float] | None) -> Section:
    plane = drawn.plane
    shown = len(plane.points) + len(plane.unscored_us)
    caption = "Hollow circles are predicted, filled ones measured; grey crosses are outside of the budget." + _thinned(
        shown, drawn.total
    )
    rows = [(p.label, f"{p.latency_us:,.1f}", f"{p.quality:.4g}", "yes" if p.measured else "no") for p in plane.front]
    table = Table("Networks on the front", ("network", "latency (us)", plane.quality, "measured"), rows[:_MOST_ROWS])
    return Section(
        drawn.key, f"Pareto front: {drawn.title.lower()}", caption, pareto_plot(plane, baseline), table=table
    )


def _history(result: SearchResult) -> list[Section]:
    found = history(result.trials, result.budget.latency_us)
    if found is None:
        missing = "No trial was feasible, so there is no best one." if result.trials else "No trial has finished."
        return [Section("history", "History", missing=missing), Section("hypervolume", "Hypervolume", missing=missing)]
    rows = [(str(at), f"{value:.5g}") for at, value in zip(found.best.at, found.best.values, strict=True)]
    table = Table("Improvements", ("trial", "best value"), rows[-_MOST_ROWS:])
    first = Section("history", "History", _thinned(len(found.seen.at), found.total), history_plot(found), table=table)
    value, latency = found.corner
    caption = f"Area that feasible trials dominate from a value of {value:.4g} and {format_us(latency)} (upper end) on."
    lines = zip(found.hypervolume.at, found.hypervolume.values, strict=True)
    rows = [(str(at), f"{value:.5g}") for at, value in lines][-_MOST_ROWS:]
    table = Table("Hypervolume", ("trial", "value × us"), rows)
    return [first, Section("hypervolume", "Hypervolume", caption, hypervolume_plot(found), table=table)]


def _importance(
    result: SearchResult, key: str, words: str, chosen: Callable[[TrialRecord], bool], value: Value
) -> Section:
    title = f"Which knobs matter for {words}"
    found = importance([trial for trial in result.trials if chosen(trial)], words, value)
    if found is None:
        missing = f"Fewer than {FEWEST_TRIALS} usable trials, or none of them differ."
        return Section(f"importance-{key}", title, missing=missing)
    rows = [(knob, *(f"{shares[i]:.1%}" for shares in found.shares.values())) for i, knob in enumerate(found.knobs)]
    caption = (
        f"Shares of {words} over {found.trials:,} trials. The evaluators answer different questions: fANOVA and "
        "decrease of impurity explain all of its variation, PED-ANOVA what tells the best tenth from the others."
    )
    table = Table("Importance", ("knob", *found.shares), rows)
    return Section(f"importance-{key}", title, caption, importance_plot(found), table=table)


def _architecture(networks: tuple[NetworkSketch, ...], why_none: str) -> Section:
    title = "Architecture, block by block"
    if not networks:
        return Section("architecture", title, missing=why_none)
    headers = ("network", "block", "layers", "output", "MACs", "latency (us)", "bound by")
    rows = [(network.title, *_cells(block)) for network in networks for block in network.blocks]
    caption = "Times of the compiled networks, bars on one scale, coloured and named by the resource that holds them."
    return Section("architecture", title, caption, svg=draw_diagram(networks), table=Table("Blocks", headers, rows))


def _cells(block: Block) -> tuple[str, ...]:
    shape = "×".join(map(str, block.output_shape))
    return (block.name, ", ".join(block.layers), shape, f"{block.macs:,}", f"{block.latency_us:,.1f}", block.bound)


def _relief(found: Relief, why_none: str) -> Section:
    title = "Landscape of the space"
    if not found:
        return Section("landscape", title, missing=why_none)
    caption = (
        "Cost over two directions, each of which raises half of the knobs, in doublings of the lowest. A dip (cross) "
        "is lower than its neighbours: a search that climbs would stop there."
    )
    rows = [(each.title, str(len(each.dips)), f"{np.nanmax(each.values):,.0f}") for each in found]
    table = Table("Landscapes", ("cost", "dips", "highest over lowest"), rows)
    return Section("landscape", title, caption, relief_plot(found), table=table)


def _landscape(result: SearchResult) -> Section:
    found = landscape(result)
    title = "Latency over MACs"
    if found is None:
        return Section("macs", title, missing="No candidate was costed.")
    caption = "Every candidate that the target can run." + _thinned(len(found.points), found.total)
    return Section("macs", title, caption, landscape_plot(found))


def _curves(result: SearchResult) -> Section:
    title = "Training of finalists"
    trained = [finalist for finalist in result.finalists if finalist.curve][:_MOST_CURVES]
    if not trained:
        return Section("curves", title, missing="No finalist was trained.")
    return Section("curves", title, "", curves_plot({f"trial {f.trial.index}": f.curve for f in trained}))


def _thinned(shown: int, total: int) -> str:
    return f" {shown:,} of {total:,} points are drawn; the others would lie on them." if shown < total else ""


def _feasible(trial: TrialRecord) -> bool:
    return trial.feasible and not trial.stopped


def _costed(trial: TrialRecord) -> bool:
    return trial.cost is not None


def _latency(trial: TrialRecord) -> float:
    assert trial.cost is not None
    return trial.cost.latency_us
