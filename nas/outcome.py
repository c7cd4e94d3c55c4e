"""What a finished search leaves in its run directory for people: the winner's architecture and the figures."""

from __future__ import annotations

from pathlib import Path

from ..common.files import write_atomic
from ..common.units import cycles_to_us
from ..export.compiler import Compiled
from .figures import draw_layers, draw_pareto
from .report_data import LayerTime, finalist_plane, screen_plane
from .results import SearchResult


def write_outcome(directory: Path, result: SearchResult, winner: Compiled | None = None) -> list[Path]:
    """Writes winner.toml, pareto.png and, for a compiled `winner`, layers.png; returns what was written."""
    written: list[Path] = []
    if result.winner is not None:
        path = directory / "winner.toml"
        write_atomic(path, result.winner.architecture.to_toml().encode())
        written.append(path)
    if screen_plane(result) or finalist_plane(result):
        written.append(draw_pareto(result, directory / "pareto.png"))
    if winner is not None:
        written.append(draw_layers([("winner", layer_times(winner))], directory / "layers.png"))
    return written


def layer_times(compiled: Compiled) -> list[LayerTime]:
    """The subgraphs of a compiled region in execution order; their times add up to its latency."""
    clock = compiled.program.spec.clock_mhz
    return [
        LayerTime(found.label, cycles_to_us(found.cycles - found.hidden_cycles, clock), found.bound)
        for found in compiled.report
    ]
