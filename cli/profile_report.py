"""What `lanefit profile` prints: JSON document and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..common.labels import short_label
from ..common.units import format_bytes, format_us
from .tables import judgement_line, pairs, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..export.placement import Placement
    from ..export.profiling import Judgement, Profile, Row

_BOUNDS = ("array", "output", "vector", "memory")
_NUMBERS = ("cycles", "share", *_BOUNDS, "DRAM", "used")


def profile_document(name: str, profile: Profile, judgement: Judgement, top: int) -> dict[str, Any]:
    """The JSON result; the schema is in docs/cli.md."""
    worst = [{"label": row.report.label, "bound": row.report.bound, "advice": text} for row, text in profile.worst(top)]
    return {
        "model": name,
        "target": profile.spec.name,
        "verdict": judgement.as_dict(),
        "totals": profile.totals(),
        "subgraphs": [row.as_dict() for row in profile.rows()],
        "cpu": [placement.as_dict() for placement in (*profile.refused, *profile.passive)],
        "worst": worst,
    }


def profile_tables(name: str, profile: Profile, judgement: Judgement, top: int) -> list[RenderableType]:
    """Verdict first, then subgraphs, CPU operators, totals and the worst."""
    shown: list[RenderableType] = [judgement_line(judgement), _subgraphs(name, profile)]
    if profile.refused:
        shown.append(cpu_table(profile.refused))
    shown.append(pairs(_totals(profile), title="totals"))
    if worst := profile.worst(top):
        shown.append(_worst(worst))
    return shown


def cpu_table(placements: tuple[Placement, ...]) -> RenderableType:
    """Operators that the engine refused, each with the rule and the value that broke it."""
    rows = [(p.node, p.op_type, p.rule or "", p.value or "", p.sentence) for p in placements]
    return table(
        ("node", "operator", "rule", "value", "the rule says"),
        rows,
        title="on the CPU (time not modelled; loops are TVM's defaults, untuned)",
    )


def _subgraphs(name: str, profile: Profile) -> RenderableType:
    headers = ("subgraph", "kind", "precision", "on", "cycles", "hidden", "share", *_BOUNDS, "bound", "DRAM", "used")
    return table(headers, map(_cells, profile.rows()), title=f"{name} on {profile.spec.name}", numbers=_NUMBERS)


def _cells(row: Row) -> tuple[str, ...]:
    found = row.report
    moved = format_bytes(found.dram_read_bytes + found.dram_write_bytes)
    own = (f"{found.cycles:,.0f}", f"{found.hidden_cycles:,.0f}")
    time = (*own, f"{row.share:.1%}", *(f"{getattr(found, name):,.0f}" for name in _BOUNDS))
    return (
        short_label(found.label),
        found.kind,
        found.precision,
        "engine",
        *time,
        found.bound,
        moved,
        f"{found.utilisation:.0%}",
    )


def _totals(profile: Profile) -> list[tuple[str, str]]:
    found = profile.totals()
    bound = found["lower_bound_cycles"]
    rows = [
        ("latency", format_us(found["latency_us"]) + (" on the engine alone" if profile.refused else "")),
        ("cycles", f"{found['cycles']:,.0f}"),
        ("lower bound", f"{bound:,.0f} cycles ({bound / found['cycles']:.0%})" if found["cycles"] else "0 cycles"),
        ("peak SRAM", f"{format_bytes(found['sram_bytes'])} of {format_bytes(profile.spec.sram_bytes)}"),
        ("DRAM traffic", format_bytes(found["dram_bytes"])),
        ("weights", format_bytes(found["weight_bytes"])),
        ("MACs", f"{found['macs']:,.0f}"),
        ("utilisation", f"{found['utilisation']:.1%}"),
    ]
    if found["copied_bytes"] or found["free_moves"]:
        text = f"{format_bytes(found['copied_bytes'])}; {found['free_moves']:,.0f} maps are parts of others, not copied"
        rows.append(("copied", text))
    if profile.passive:
        rows.append(
            ("on the CPU", f"{len(profile.passive)} quantise, dequantise and reshape operators, not in the latency")
        )
    return rows


def _worst(worst: list[tuple[Row, str]]) -> RenderableType:
    rows = [(short_label(row.report.label), f"{row.share:.1%}", row.report.bound, text) for row, text in worst]
    return table(("slowest", "share", "bound", "suggestion"), rows, numbers=("share",))
