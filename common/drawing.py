"""Figures as PNG files: equal data gives equal bytes.

matplotlib is imported when something is drawn, and only its file backend.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays apart for colour-blind readers
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
SKY, GREY = "#56B4E9", "#9A9A9A"
_BOUNDS = {"array": BLUE, "output": ORANGE, "vector": GREEN, "memory": RED, "dram": RED, "sram": PURPLE}
_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: Path) -> Path:
    """Writes the figure atomically and returns the path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    write_atomic(path, buffer.getvalue())
    return path


def bound_colour(bound: str) -> str:
    """The colour of what holds a layer ("array", "memory", ...); grey for anything else."""
    return _BOUNDS.get(bound, GREY)


def bound_legend(figure: Figure, bounds: Sequence[str]) -> None:
    """A legend above the figure for those of `bounds` that have a name, in the order in which they occur."""
    from matplotlib.patches import Patch

    known = [bound for bound in dict.fromkeys(bounds) if bound]
    if known:
        patches = [Patch(color=bound_colour(bound), label=bound) for bound in known]
        figure.legend(handles=patches, fontsize=8, ncols=len(known), loc="outside upper center", title="bound by")
