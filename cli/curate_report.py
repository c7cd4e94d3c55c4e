"""What `lanefit curate` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .tables import pairs, table

if TYPE_CHECKING:
    from ..nas.curation import CurationReport, KnobCuration
    from ..nas.curation.walks import Ruggedness


def curation_document(
    report: CurationReport, walks: Mapping[str, Ruggedness], files: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    """The JSON result."""
    factor = report.cardinality_before / report.cardinality_after
    found = {name: walk.as_dict() for name, walk in walks.items()}
    return {**report.as_dict(), "factor": factor, "walks": found, "files": list(files)}


def curation_tables(report: CurationReport, walks: Mapping[str, Ruggedness], files: Sequence[str]) -> list[Any]:
    """What stays, what goes and why, the size of the space, and how rugged its cost is."""
    kept = table(
        ("knob", "kept, by cost", "cost", "against the order"),
        [_kept(knob) for knob in report.knobs],
        title=f"worth searching on {report.target}",
        numbers=("cost", "against the order"),
    )
    rows = [(knob.knob, drop.value, drop.reason) for knob in report.knobs for drop in knob.dropped]
    factor = report.cardinality_before / report.cardinality_after
    totals: list[tuple[str, object]] = [
        (
            "architectures",
            f"{report.cardinality_before:.2e} to {report.cardinality_after:.2e}: {factor:.3g} times fewer",
        ),
        ("probes", f"{report.probes} networks"),
        *((f"walks {name}", _walk(walk)) for name, walk in walks.items()),
    ]
    shown = [kept, table(("knob", "dropped", "because"), rows), pairs(totals)]
    return [*shown, pairs([("files", ", ".join(files))])] if files else shown


def _kept(knob: KnobCuration) -> tuple[object, ...]:
    values = ", ".join(map(str, knob.kept))
    cost = f"x{knob.cost_ratios[-1]:.2f}" if len(knob.cost_ratios) > 1 else ""
    falls = "" if knob.falls_before is None else f"{knob.falls_before:.0%}"
    return knob.knob, values, cost, f"{falls} to {knob.falls_after:.0%}" if knob.falls_after is not None else falls


def _walk(walk: Ruggedness) -> str:
    return f"{walk.minima_per_1000:.0f} local minima and {walk.falls_per_1000:.0f} falls per 1,000 steps"
