"""The tables of the report: budgets, finalists, violations, spending, settings and environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...common.budget import BudgetItem, Verdict
from ...common.units import format_us
from ..results import Finalist, SearchResult
from .source import Source
from .spending import spending, violations


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text below headers; every row is as long as `headers`."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(source: Source) -> list[Table]:
    """What stands in words, in the order of the page."""
    result = source.result
    found = [
        _budgets(result),
        _finalists(result),
        Table("How far predictions held", ("what", "figure"), _violations(result)),
        Table("What was spent", ("what", "figure"), spending(source)),
        Table("Winner's knobs", ("knob", "value"), _knobs(result)),
        _curation(source.run.get("facts", {}).get("curation")),
        Table("Settings", ("setting", "value"), _flat(source.run["config"])),
        Table("Environment", ("what", "value"), _environment(source.run)),
    ]
    return [table for table in found if table.rows]


def _budgets(result: SearchResult) -> Table:
    """Each limit against the winner, predicted (the upper end of latency) and measured."""
    headers = ("budget", "limit and value predicted, upper end", "measured")
    winner = result.winner
    if winner is None or winner.trial.cost is None:
        limits = [(text,) for text in str(result.budget).split(", ")] if result.budget.limits() else []
        return Table("Budgets", ("limit",), limits)
    predicted = winner.trial.cost.check(result.budget.hardware())
    measured = winner.measured.check(result.budget.hardware()) if winner.measured else Verdict()
    said = {item.name: item for item in (*measured.items, *(i for i in winner.verdict.items if i.name == "accuracy"))}
    names = list(dict.fromkeys([*(item.name for item in predicted.items), *said]))
    before = {item.name: item for item in predicted.items}
    return Table("Budgets", headers, [(name, _item(before.get(name)), _item(said.get(name))) for name in names])


def _item(item: BudgetItem | None) -> str:
    return "" if item is None else f"{'PASS' if item.passed else 'FAIL'} {item}"


def _finalists(result: SearchResult) -> Table:
    headers = ("finalist", "accuracy", "test", "predicted", "upper end", "measured", "off by", "inside the budget")
    return Table("Finalists: predicted against measured", headers, [_finalist(f) for f in result.finalists])


def _finalist(finalist: Finalist) -> tuple[str, ...]:
    predicted, measured = finalist.trial.cost, finalist.measured
    off = f"{measured.latency_us / predicted.latency_us - 1:+.1%}" if measured and predicted else ""
    return (
        f"trial {finalist.trial.index}",
        _percent(finalist.accuracy),
        _percent(finalist.accuracy_test),
        format_us(predicted.latency_us) if predicted else "",
        format_us(predicted.latency_upper_us) if predicted else "",
        format_us(measured.latency_us) if measured else "not measured",
        off,
        "yes" if finalist.verdict.passed else "NO",
    )


def _violations(result: SearchResult) -> list[tuple[str, str]]:
    found = violations(result)
    rows = [
        ("trials that the target can run", f"{found.trials:,}"),
        ("trials refused by the target", f"{found.refused:,}"),
    ]
    if found.trials:
        missed = ", ".join(f"{name} {count:,}" for name, count in found.by_limit.items())
        outside = f"{found.outside:,} ({found.outside / found.trials:.1%}){f': {missed}' if missed else ''}"
        rows.append(("trials outside of the budget as predicted, and so not pursued", outside))
    if found.rate is None:
        return [*rows, ("violation rate", "unknown: nothing was measured")]
    rows.append(
        (
            "violation rate: inside as predicted, outside as measured",
            f"{found.rate:.1%} ({found.broken} of {found.measured})",
        )
    )
    return [*rows, ("measured latency beyond the predicted upper end", f"{found.above} of {found.measured}")]


def _knobs(result: SearchResult) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in result.winner.architecture.knobs] if result.winner else []


def _curation(report: Mapping[str, Any] | None) -> Table:
    """What curation left out of the space and why, as the run's facts hold it."""
    rows: list[tuple[str, ...]] = []
    if report:
        sizes = f"{report['cardinality_before']:.2e} to {report['cardinality_after']:.2e} networks"
        rows = [("all knobs", sizes, "")] + [row for knob in report["knobs"] for row in _dropped(knob)]
    return Table("Curation", ("knob", "kept", "dropped"), rows)


def _dropped(knob: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    if knob["dropped"]:
        yield str(knob["knob"]), ", ".join(map(str, knob["kept"])), "; ".join(map(_reason, knob["dropped"]))


def _reason(dropped: Any) -> str:
    if isinstance(dropped, Mapping):
        return f"{dropped.get('value')}: {dropped.get('reason', '')}"
    return ": ".join(map(str, dropped)) if isinstance(dropped, list) else str(dropped)


def _environment(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    told = {"command": " ".join(run["command"]), "started": run.get("started"), "finished": run.get("finished")}
    facts = {name: value for name, value in run.get("facts", {}).items() if name != "curation"}
    return _flat({**told, "seed": run["seed"], **facts, **run["environment"], **run["versions"]})


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif value not in (None, "", []):
            rows.append((f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
