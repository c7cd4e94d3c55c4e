"""The figures of a search as PNG files: Pareto planes and per-layer bars. Equal data gives equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.drawing import BLUE, GREEN, GREY, ORANGE, RED, bound_colour, bound_legend, new_figure, save_png
from ..common.errors import InputError
from .report_data import LayerTime, Plane, Point, finalist_plane, screen_plane, slowest
from .results import SearchResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_LAYERS = 40


def draw_pareto(result: SearchResult, path: Path, references: Sequence[Point] = ()) -> Path:
    """The screened candidates and, if any were trained, the finalists with `references`, one panel each.

    Raises:
        InputError: when the search has nothing to draw.
    """
    planes = [plane for plane in (screen_plane(result), finalist_plane(result, references)) if plane]
    if not planes:
        raise InputError("this search has neither scores nor accuracies to draw")
    figure = new_figure(6.2 * len(planes), 4.6)
    for axes, plane in zip(figure.subplots(1, len(planes), squeeze=False)[0], planes, strict=True):
        _draw_plane(axes, plane)
    return save_png(figure, path)


def draw_layers(networks: Sequence[tuple[str, Sequence[LayerTime]]], path: Path) -> Path:
    """Time of every layer in execution order, coloured by what bounds it, one panel for each (title, layers).

    All panels share the time axis. Of long networks the slowest 40 layers are shown and the rest summed up.
    """
    if not networks or not all(layers for _, layers in networks):
        raise InputError("a network without layers cannot be drawn")
    shown = [(title, slowest(layers, _MAX_LAYERS)) for title, layers in networks]
    rows = max(len(layers) for _, layers in shown)
    figure = new_figure(5.6 * len(shown), 1.6 + 0.19 * rows)
    panels = figure.subplots(1, len(shown), squeeze=False, sharex=True)[0]
    for axes, (title, layers), (_, complete) in zip(panels, shown, networks, strict=True):
        times, colours = [layer.latency_us for layer in layers], [bound_colour(layer.bound) for layer in layers]
        axes.barh(range(len(layers)), times, color=colours)
        axes.set_yticks(range(len(layers)), [layer.label for layer in layers], fontsize=7)
        axes.set_ylim(rows - 0.4, -0.6)  # bars of all panels are equally thick
        axes.set_title(f"{title}: {sum(layer.latency_us for layer in complete):.1f} us", fontsize=10)
        axes.set_xlabel("latency (us)")
    bound_legend(figure, [layer.bound for _, layers in shown for layer in layers])
    return save_png(figure, path)


def _draw_plane(axes: Axes, plane: Plane) -> None:
    finalists = {point.label for point in plane.points if point.measured}
    for label in sorted(finalists):  # from predicted to measured
        pair = [point for point in plane.points if point.label == label]
        axes.plot([p.latency_us for p in pair], [p.quality for p in pair], color=GREY, linewidth=0.8, zorder=1)
    inside = [point for point in plane.points if point.feasible]
    _scatter(axes, [p for p in plane.points if not p.feasible], "outside of the budget", GREY, "o")
    _scatter(axes, [p for p in inside if not p.measured], "predicted", BLUE, "o", hollow=True)
    _scatter(axes, [p for p in inside if p.measured], "measured", BLUE, "o")
    if plane.winner:
        _scatter(axes, [plane.winner], "winner", RED, "*", size=130)
    _draw_references(axes, plane.references)
    if len(plane.front) > 1:
        front = ([p.latency_us for p in plane.front], [p.quality for p in plane.front])
        axes.step(*front, where="post", color=BLUE, linewidth=1, label="Pareto front", zorder=1)
    _limits(axes, plane)
    _draw_unscored(axes, plane)
    axes.set_xlabel("latency (us)")
    axes.set_ylabel(plane.quality)
    axes.margins(0.08)
    axes.grid(visible=True, color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)


def _draw_references(axes: Axes, references: Sequence[Point]) -> None:
    for point in references:
        axes.scatter([point.latency_us], [point.quality], s=40, color="black", marker="D", zorder=3)
        at = (point.latency_us, point.quality)
        axes.annotate(point.label, at, xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)


def _draw_unscored(axes: Axes, plane: Plane) -> None:
    """Ticks at the bottom; those far off are counted instead, so that they do not squeeze the rest."""
    if not plane.unscored_us:
        return
    inside = [point.latency_us for point in plane.points] + ([plane.budget_us] if plane.budget_us else [])
    reach = 1.5 * max(inside, default=max(plane.unscored_us))
    near = [latency for latency in plane.unscored_us if latency <= reach]
    beyond = len(plane.unscored_us) - len(near)
    label = "outside of the budget" + (f" ({beyond} more to the right)" if beyond else "")
    axes.plot(near, [0.015] * len(near), "|", color=GREY, label=label, transform=axes.get_xaxis_transform())


def _limits(axes: Axes, plane: Plane) -> None:
    if plane.budget_us is not None:
        axes.axvline(plane.budget_us, color=ORANGE, linestyle="--", linewidth=1.2, label="latency budget")
    if plane.floor is not None:
        axes.axhline(plane.floor, color=GREEN, linestyle="--", linewidth=1.2, label="accuracy floor")


def _scatter(
    axes: Axes, points: Sequence[Point], label: str, colour: str, marker: str, *, hollow: bool = False, size: int = 28
) -> None:
    if points:
        xs, ys = [p.latency_us for p in points], [p.quality for p in points]
        face = "none" if hollow else colour
        axes.scatter(xs, ys, s=size, facecolors=face, edgecolors=colour, marker=marker, label=label, zorder=3)
