"""Drawing steps of the report: plotly figures out of plain data. Shapes of markers say what colours say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...common.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY
from ...common.units import format_us
from ..curation.landscape import Landscape as Relief
from ..report_data import Plane, Point
from .clouds import Landscape
from .history import History, Line
from .importance import Importance

_PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_PATTERNS = ("", "/", ".", "x", "-", "+")
_LIMIT_LINE = 2.0


def pareto_plot(plane: Plane, baseline: tuple[str, float] | None = None) -> go.Figure:
    """Predicted points hollow, measured ones filled and joined to their prediction, infeasible ones grey crosses.

    `baseline` is a name and a latency in us: a line, since a search does not train what it did not find.
    """
    figure = _figure("latency (us)", plane.quality)
    _pairs(figure, plane)
    inside = [point for point in plane.points if point.feasible]
    _points(figure, [p for p in plane.points if not p.feasible], "outside or stopped", GREY, "x-thin-open")
    _points(figure, [p for p in inside if not p.measured], "predicted", BLUE, "circle-open")
    _points(figure, [p for p in inside if p.measured], "measured", BLUE, "circle")
    _points(figure, plane.references, "baseline", "black", "diamond")
    if plane.winner:
        _points(figure, [plane.winner], "winner", RED, "star", size=15)
    if len(plane.front) > 1:
        line = {"color": BLUE, "width": 1.5, "shape": "hv"}
        x, y = [p.latency_us for p in plane.front], [p.quality for p in plane.front]
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name="Pareto front", hoverinfo="skip")
    _unscored(figure, plane)
    _limits(figure, plane.budget_us, plane.floor)
    if baseline:
        _baseline(figure, *baseline, _reach(plane))
    return figure


def history_plot(history: History) -> go.Figure:
    figure = _figure("trial", "value")
    seen = {"color": GREY, "symbol": "circle-open", "size": 5}
    figure.add_scatter(x=history.seen.at, y=history.seen.values, mode="markers", marker=seen, name="feasible trial")
    _step(figure, history.best, "best so far", BLUE)
    return figure


def hypervolume_plot(history: History) -> go.Figure:
    figure = _figure("trial", "hypervolume (value × us)")
    _step(figure, history.hypervolume, "hypervolume", BLUE)
    share = history.feasible
    line = {"color": ORANGE, "dash": "dot"}
    figure.add_scatter(x=share.at, y=share.values, mode="lines", line=line, name="share that is feasible", yaxis="y2")
    axis = {
        "overlaying": "y",
        "side": "right",
        "range": [0, 1.05],
        "dtick": 0.25,
        "tickmode": "linear",
        "tickformat": ".0%",
        "showgrid": False,
    }
    figure.update_layout(yaxis2={**axis, "title": {"text": "feasible"}}, margin={"r": 70})
    return figure


def importance_plot(found: Importance, most: int = 20) -> go.Figure:
    """Grouped bars, a group for each of the `most` most important knobs, the first at the top."""
    figure = _figure("share of importance", "")
    for number, (evaluator, shares) in enumerate(found.shares.items()):
        marker = {"color": _PALETTE[number], "pattern": {"shape": _PATTERNS[number]}}
        x, y = shares[:most], found.knobs[:most]
        figure.add_bar(x=x, y=y, orientation="h", name=evaluator, marker=marker)
    shown = min(most, len(found.knobs))
    figure.update_layout(height=160 + 34 * shown, barmode="group")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(tickformat=".0%")
    return figure


def landscape_plot(landscape: Landscape) -> go.Figure:
    figure = _figure("MACs", "predicted latency (us)")
    kinds = (("outside of the budget", False, GREY, "x-thin-open"), ("inside of the budget", True, BLUE, "circle-open"))
    for name, feasible, colour, symbol in kinds:
        shown = [point for point in landscape.points if point[2] is feasible]
        marker = {"color": colour, "symbol": symbol, "size": 6, "line": {"width": 1, "color": colour}}
        x, y = [point[0] for point in shown], [point[1] for point in shown]
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name=name)
    if landscape.budget_us is not None:
        figure.add_hline(landscape.budget_us, line={"color": ORANGE, "dash": "dash", "width": _LIMIT_LINE})
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    return figure


def relief_plot(found: Sequence[Relief]) -> go.Figure:
    """A map for each landscape, powers of two over its lowest point; dips are marked, refused networks left white."""
    titles = [f"{each.title}: {len(each.dips)} dips" for each in found]
    figure = make_subplots(cols=len(found), subplot_titles=titles, horizontal_spacing=0.05)
    for column, each in enumerate(found, start=1):
        figure.add_heatmap(z=np.log2(each.values).tolist(), coloraxis="coloraxis", row=1, col=column)
        marker = {"color": RED, "symbol": "x", "line": {"color": "white", "width": 1}}
        x, y = [dip[1] for dip in each.dips], [dip[0] for dip in each.dips]
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name="dip", showlegend=False, row=1, col=column)
    colours = {"colorscale": "Viridis", "colorbar": {"title": {"text": "doublings"}}}
    figure.update_layout(template="simple_white", height=420, coloraxis=colours, margin={"l": 40, "r": 20, "t": 40})
    figure.update_xaxes(title="half of the knobs, raised")
    return figure


def curves_plot(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Validation accuracy over epochs, a line for each training."""
    figure = _figure("epoch", "validation accuracy")
    for number, (name, curve) in enumerate(curves.items()):
        line = {"color": _PALETTE[number % len(_PALETTE)], "dash": _DASHES[number // len(_PALETTE) % len(_DASHES)]}
        epochs = list(range(1, len(curve) + 1))
        figure.add_scatter(x=epochs, y=list(curve), mode="lines+markers", line=line, marker={"size": 4}, name=name)
    figure.update_yaxes(tickformat=".0%")
    return figure


def _figure(x: str, y: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="simple_white",
        height=440,
        margin={"l": 70, "r": 20, "t": 20, "b": 50},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        xaxis={"title": {"text": x}, "showgrid": True, "gridcolor": "#E5E5E5"},
        yaxis={"title": {"text": y}, "showgrid": True, "gridcolor": "#E5E5E5"},
        font={"size": 13},
    )
    return figure


def _points(figure: go.Figure, points: Sequence[Point], name: str, colour: str, symbol: str, *, size: int = 8) -> None:
    if points:
        figure.add_scatter(
            x=[point.latency_us for point in points],
            y=[point.quality for point in points],
            text=[point.label for point in points],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": size, "line": {"width": 1.5, "color": colour}},
            name=name,
        )


def _pairs(figure: go.Figure, plane: Plane) -> None:
    """Grey lines from what was predicted to what was measured."""
    measured = {point.label: point for point in plane.points if point.measured}
    x: list[float | None] = []
    y: list[float | None] = []
    for point in plane.points:
        if not point.measured and point.label in measured:
            x += [point.latency_us, measured[point.label].latency_us, None]
            y += [point.quality, measured[point.label].quality, None]
    if x:
        line = {"color": GREY, "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name="predicted to measured", hoverinfo="skip")


def _reach(plane: Plane) -> float:
    """How far to the right a plane goes at most, so that what lies far off does not squeeze the rest."""
    inside = [point.latency_us for point in plane.points] + ([plane.budget_us] if plane.budget_us else [])
    return 1.5 * max(inside, default=max(plane.unscored_us, default=0.0))


def _baseline(figure: go.Figure, name: str, latency_us: float, reach: float) -> None:
    if latency_us <= reach:
        line = {"color": "black", "dash": "dot", "width": 1}
        figure.add_vline(latency_us, line=line, annotation_text=name, annotation_position="bottom right")
    else:
        text = f"{name}: {format_us(latency_us)} →"
        figure.add_annotation(text=text, x=1, y=0.02, xref="paper", yref="paper", xanchor="right", showarrow=False)


def _unscored(figure: go.Figure, plane: Plane) -> None:
    """Ticks at the bottom for candidates that never got a quality, as far as they do not squeeze the rest."""
    if not plane.unscored_us:
        return
    reach = _reach(plane)
    near = [latency for latency in plane.unscored_us if latency <= reach]
    beyond = len(plane.unscored_us) - len(near)
    name = "outside of the budget, not scored" + (f" ({beyond:,} more to the right)" if beyond else "")
    low = min((point.quality for point in plane.points), default=0.0)
    marker = {"color": GREY, "symbol": "line-ns-open", "size": 9}
    figure.add_scatter(x=near or [None], y=[low] * max(len(near), 1), mode="markers", marker=marker, name=name)


def _limits(figure: go.Figure, budget_us: float | None, floor: float | None) -> None:
    if budget_us is not None:
        line = {"color": ORANGE, "dash": "dash", "width": _LIMIT_LINE}
        figure.add_vline(budget_us, line=line, annotation_text="latency budget", annotation_position="top left")
    if floor is not None:
        line = {"color": GREEN, "dash": "dash", "width": _LIMIT_LINE}
        figure.add_hline(floor, line=line, annotation_text="accuracy floor", annotation_position="bottom right")


def _step(figure: go.Figure, line: Line, name: str, colour: str) -> None:
    style = {"color": colour, "width": 2, "shape": "hv"}
    figure.add_scatter(x=line.at, y=line.values, mode="lines", line=style, name=name)
