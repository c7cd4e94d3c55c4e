"""The landscape of a space: cost over two directions that raise half of the knobs each.

Each direction is one climb (see `walks`) that raises only its own knobs. A point of the landscape combines both. The
three landscapes that belong side by side: multiply-accumulates, the cost on the target, and that cost once curated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...common.drawing import RED, new_figure, save_png
from ...common.files import write_atomic
from ..space import Space
from .costs import Sampler
from .probes import Assignment, architecture_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 20  # points in each direction
_LABELS = ("one half of the knobs, raised", "the other half, raised")


@dataclass(frozen=True, slots=True)
class Landscape:
    """values: (points, points), relative to the lowest; NaN where the target refuses. dips: (row, column) of points
    that are lower than all neighbours (of four), the lowest corner left out."""

    title: str
    values: NDArray[np.float64]
    dips: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, title: str, values: NDArray[np.float64]) -> Landscape:
        relative = values / np.nanmin(values)
        return cls(title, relative, _dips(relative))


def landscapes(
    target: str, before: Space, after: Space, sample: Sampler, *, size: int = SIZE, seed: int = 0
) -> tuple[Landscape, Landscape, Landscape]:
    """Work, cost, and cost of the curated space. `before` should be ordered by work, see `walks.ordered_by_work`."""
    grid, curated = _grid(before, size, seed), _grid(after, size, seed)
    plain = [architecture_of(before, values) for values in grid]
    found = {
        "multiply-accumulates": sample.macs(plain),
        target: sample.latencies(plain),
        f"{target}, curated": sample.latencies(architecture_of(after, values) for values in curated),
    }
    first, second, third = (Landscape.of(title, values.reshape(size, size)) for title, values in found.items())
    return first, second, third


def draw_landscapes(found: tuple[Landscape, ...], path: Path) -> Path:
    """A PNG with one panel each; equal data gives equal bytes."""
    figure = new_figure(4.6 * len(found), 4.4)
    for axes, landscape in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        _draw(axes, landscape)
    return save_png(figure, path)


def write_landscapes(found: tuple[Landscape, ...], path: Path, *, heading: str) -> Path:
    """A self-contained HTML page with one surface each, to be turned by hand."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [_title(landscape) for landscape in found]
    figure = make_subplots(
        rows=1, cols=len(found), subplot_titles=titles, specs=[[{"type": "surface"}] * len(found)],
        horizontal_spacing=0.02,
    )  # fmt: skip
    axes: dict[str, Any] = {"xaxis_title": _LABELS[0], "yaxis_title": _LABELS[1], "zaxis_title": "log2 of the ratio"}
    for column, landscape in enumerate(found, start=1):
        surface = go.Surface(z=np.log2(landscape.values).tolist(), showscale=False, colorscale="Viridis")
        figure.add_trace(surface, row=1, col=column)
        figure.update_scenes(axes, row=1, col=column)
    figure.update_layout(title=heading, height=620, margin={"l": 10, "r": 10, "t": 80, "b": 10})
    write_atomic(path, figure.to_html(full_html=True, include_plotlyjs=True, div_id="landscape").encode())
    return path


def _grid(space: Space, size: int, seed: int) -> list[Assignment]:
    """The assignments of all points, row by row."""
    generator = np.random.default_rng(seed)
    names = [knob.name for knob in space.knobs if len(knob.values) > 1]
    first = {name for name in names if generator.random() < 0.5}
    rows, columns = (_direction(space, half, size, generator) for half in (first, {*names} - first))
    fixed = {knob.name: knob.values[0] for knob in space.knobs}
    return [{**fixed, **row, **column} for row in rows for column in columns]


def _direction(space: Space, names: set[str], size: int, generator: np.random.Generator) -> list[Assignment]:
    """`size` assignments of the knobs in `names`, each raised a little further than the one before."""
    steps = [knob.name for knob in space.knobs if knob.name in names for _ in knob.values[1:]]
    order = [steps[i] for i in generator.permutation(len(steps))]
    values = {knob.name: knob.values for knob in space.knobs}
    ends = np.linspace(0, len(order), size).round().astype(int)
    return [{name: values[name][order[:end].count(name)] for name in names} for end in ends.tolist()]


def _dips(values: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    padded = np.pad(values, 1, constant_values=np.inf)
    around = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    lower = np.all([values < 0.999 * other for other in around], axis=0)
    lower[0, 0] = False
    return tuple((int(row), int(column)) for row, column in np.argwhere(lower))


def _draw(axes: Axes, landscape: Landscape) -> None:
    shown = np.log2(landscape.values)
    axes.contourf(shown, levels=24, cmap="viridis")
    axes.contour(shown, levels=24, colors="white", linewidths=0.4)
    if landscape.dips:
        rows, columns = zip(*landscape.dips, strict=True)
        axes.scatter(columns, rows, s=22, color=RED, edgecolors="white", linewidths=0.6, zorder=3)
    axes.set_title(_title(landscape), fontsize=9)
    axes.set_xlabel(_LABELS[0])
    axes.set_ylabel(_LABELS[1])


def _title(landscape: Landscape) -> str:
    count = len(landscape.dips)
    return f"{landscape.title}: {count} {'dip' if count == 1 else 'dips'}"
