"""Estimates on a device that was calibrated live, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..common.units import format_us
from .output import Output
from .tables import pairs, table

if TYPE_CHECKING:
    from ..estimator.live.breakdown import LivePart
    from ..estimator.live.judgement import LiveEstimate

_HEADERS = ("operator", "output", "times", "us each", "nine of ten", "share", "measured before")


def warn_beyond(output: Output, found: LiveEstimate) -> None:
    """Says on stderr when the estimate rests on more than what was measured."""
    if found.extrapolated:
        share = found.breakdown.extrapolated_share
        output.warn(f"{share:.1%} of this network lies beyond what was measured; its interval is no promise")


def estimate_document(found: LiveEstimate, measured_us: float | None) -> dict[str, Any]:
    """Parts and `run_us` add up to `latency_us`."""
    from ..estimator.live.breakdown import label

    breakdown = found.breakdown
    parts = [
        {
            "operator": label(part.operator), "count": part.count, "latency_us": part.latency_us,
            "lower_us": part.lower_us, "upper_us": part.upper_us, "known": str(part.known),
        }
        for part in breakdown.parts
    ]  # fmt: skip
    return {
        "latency_us": found.latency_us, "lower_us": found.lower_us, "upper_us": found.upper_us,
        "measured_us": measured_us, "extrapolated": found.extrapolated,
        "extrapolated_share": breakdown.extrapolated_share, "run_us": breakdown.run_us, "parts": parts,
    }  # fmt: skip


def estimate_tables(found: LiveEstimate, measured_us: float | None, device: str, top: int) -> list[Any]:
    """Totals, and the longest operators; those that nobody measured are listed whatever they take."""
    totals: list[tuple[str, object]] = [
        ("predicted", f"{format_us(found.latency_us)} on {device}"),
        ("nine of ten lie in", f"{format_us(found.lower_us)} to {format_us(found.upper_us)}"),
    ]
    if measured_us is not None:
        totals.append(("measured", f"{format_us(measured_us)} (predicted {found.latency_us / measured_us - 1:+.1%})"))
    rows = [*_rows(found, top), _run_row(found)]
    return [pairs(totals), table(_HEADERS, rows, numbers=_HEADERS[2:6], title="where the time goes")]


def _rows(found: LiveEstimate, top: int) -> list[tuple[object, ...]]:
    from ..estimator.live.box import Known

    parts, whole = found.breakdown.parts, found.breakdown.total_us
    shown = [part for place, part in enumerate(parts) if place < top or part.known is Known.UNKNOWN]
    rows = [_row(part, whole) for part in shown]
    if rest := [part for part in parts if part not in shown]:
        count, total = sum(part.count for part in rest), sum(part.total_us for part in rest)
        rows.append(("others", "", count, f"{total / count:.1f}", "", f"{total / whole:.1%}", ""))
    return rows


def _row(part: LivePart, whole: float) -> tuple[object, ...]:
    from ..estimator.live.work import work_of

    shape = "x".join(map(str, part.operator.outputs[0].shape)) if part.operator.outputs else ""
    ends = f"{part.lower_us:.1f} to {part.upper_us:.1f}"
    known = {"inside": "yes", "beyond": "beyond the box"}.get(str(part.known), "no, nothing of its kind")
    share = f"{part.total_us / whole:.1%}"
    return work_of(part.operator).kind, shape, part.count, f"{part.latency_us:.1f}", ends, share, known


def _run_row(found: LiveEstimate) -> tuple[object, ...]:
    run = found.breakdown.run_us
    return "run and ports", "", 1, f"{run:.1f}", "", f"{run / found.breakdown.total_us:.1%}", ""
