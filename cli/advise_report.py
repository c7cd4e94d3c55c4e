"""Advice as tables and as a JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..common.units import format_bytes, format_us
from .tables import pairs, table

if TYPE_CHECKING:
    from ..nas.advice.advise import Advice, Suggestion
    from ..nas.advice.judges import Costing

_CHANGES = ("latency", "SRAM", "weights", "MACs")


def advice_document(name: str, target: str, advice: Advice[Any]) -> dict[str, Any]:
    """JSON values, units in the names."""
    return {
        "model": name,
        "target": target,
        "before": _costing(advice.before),
        "alone": [_suggestion(item, advice.before) for item in advice.alone],
        "together": [_suggestion(item, advice.before) for item in advice.together],
        "latency_gain": advice.gain,
        "refused": advice.refused,
    }


def advice_tables(name: str, target: str, advice: Advice[Any]) -> list[Any]:
    """The network as it is, what each rule brings alone, and what all bring one after the other."""
    shown = [pairs(_totals(advice.before), title=f"{name} on {target}")]
    if not advice.alone:
        return [*shown, "no rule makes this network cheaper here"]
    headers = ("rule", "places", *_CHANGES, "afterwards")
    rows = [(item.rule, _places(item), *_percent(item.after, advice.before), item.effect) for item in advice.alone]
    shown.append(table(headers, rows, title="each rule alone", numbers=_CHANGES))
    steps = [(item.rule, _places(item), *_percent(item.after, advice.before), item.effect) for item in advice.together]
    if steps:
        shown.append(table(headers, steps, title="together, one after the other", numbers=_CHANGES))
    reasons = {item.rule: item.reason for item in (*advice.alone, *advice.together)}
    shown.append(pairs(reasons.items(), title="why"))
    shown += [f"{rule} does not apply: {why}" for rule, why in advice.refused.items()]
    after = f"{format_us(advice.before.latency_us)} to {format_us(advice.after.latency_us)}"
    return [*shown, f"all together: {advice.gain:.1%} less latency ({after})"]


def _totals(found: Costing) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("latency", format_us(found.latency_us)),
        ("peak SRAM", format_bytes(found.sram_bytes)),
        ("weights", format_bytes(found.weight_bytes)),
        ("MACs", f"{found.macs:,}"),
    ]
    if found.cpu_operators:
        rows.append(("on the CPU", f"{found.cpu_operators} operators, whose time is not counted"))
    return rows


def _places(item: Suggestion[Any]) -> str:
    """How many, and the first ones with what changes there."""
    first = ", ".join(f"{site.name} ({site.detail})" for site in item.sites[:2])
    more = f" and {len(item.sites) - 2} more" if len(item.sites) > 2 else ""
    spared = f"; {item.left_out} more would not pay" if item.left_out else ""
    return f"{first}{more}{spared}"


def _percent(after: Costing, before: Costing) -> tuple[str, ...]:
    names = ("latency_us", "sram_bytes", "weight_bytes", "macs")
    return tuple(_change(getattr(after, name), getattr(before, name)) for name in names)


def _change(after: float, before: float) -> str:
    return f"{after / before - 1:+.1%}" if before else "new" if after else "0"


def _suggestion(item: Suggestion[Any], before: Costing) -> dict[str, Any]:
    return {
        "rule": item.rule,
        "reason": item.reason,
        "effect": str(item.effect),
        "sites": [{"name": site.name, "detail": site.detail} for site in item.sites],
        "left_out": item.left_out,
        "latency_gain": item.gain(before),
        "after": _costing(item.after),
    }


def _costing(found: Costing) -> dict[str, Any]:
    figures = asdict(found)
    del figures["shares"]
    return figures
