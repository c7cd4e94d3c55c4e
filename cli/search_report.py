"""What `lanefit search` prints and leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.units import format_bytes, format_us
from .tables import judgement_line, pairs, table

if TYPE_CHECKING:
    from ..nas.curation import CurationReport
    from ..nas.results import Finalist, SearchResult
    from ..nas.scoring import Cost
    from ..nas.workbench import ModelWorkbench
    from ..targets.spec import EngineSpec


def write_results(place: Path, result: SearchResult, bench: ModelWorkbench, spec: EngineSpec) -> list[str]:
    """Writes the winner's architecture and the figures into the run directory; their names."""
    from ..nas.bridge import to_graph
    from ..nas.measure import compile_shapes
    from ..nas.outcome import write_outcome

    winner = compile_shapes(to_graph(bench.layers(result.winner.architecture)), spec) if result.winner else None
    return [path.name for path in write_outcome(place, result, winner)]


def search_document(
    place: Path, result: SearchResult, curation: CurationReport | None, files: list[str]
) -> dict[str, Any]:
    """The JSON result; the trials themselves are in run.json."""
    from ..nas.report.spending import violations

    held, feasible = violations(result), sum(trial.feasible for trial in result.trials)
    return {
        "run": str(place),
        "seed": result.seed,
        "verdict": result.winner.verdict.as_dict() if result.winner else None,
        "winner": result.winner.as_dict() if result.winner else None,
        "finalists": [finalist.as_dict() for finalist in result.finalists],
        "trials": {"count": len(result.trials), "feasible": feasible, "refused": _refused(result)},
        "violations": {"measured": held.measured, "outside": held.broken, "above": held.above, "rate": held.rate},
        "curation": curation.as_dict() if curation else None,
        "warnings": list(result.warnings),
        "files": files,
    }


def search_tables(place: Path, result: SearchResult, curation: CurationReport | None, files: list[str]) -> list[Any]:
    """Verdict, winner, finalists, trials, curation."""
    from ..nas.report.spending import violations

    shown: list[Any] = []
    if result.winner:
        shown += [judgement_line(result.winner.verdict), _winner(result.winner)]
    shown.append(_finalists(result))
    feasible = sum(trial.feasible for trial in result.trials)
    held = violations(result)
    rows: list[tuple[str, object]] = [
        ("trials", f"{len(result.trials)}, {feasible} inside the budget, {_refused(result)} refused by the target"),
        ("seed", result.seed),
    ]
    if held.measured:
        missed = (
            f"{held.broken} of {held.measured} candidates that were compiled missed the budget that they were to keep"
        )
        rows.append(("violations", missed))
    if curation:
        rows.append(("curation", _curated(curation)))
    rows += [
        ("run", str(place)),
        ("files", ", ".join(files)),
        ("next", f"lanefit report {place}; lanefit export {place} -o winner.lanefit"),
    ]
    shown.append(pairs(rows))
    return shown


def _winner(winner: Finalist) -> Any:
    predicted, measured = winner.trial.cost, winner.measured
    left, right = _figures(predicted), _figures(measured)
    rows: list[tuple[object, ...]] = [(label, left.get(label, ""), right.get(label, "")) for label in {**left, **right}]
    rows += [(knob, value, "") for knob, value in winner.architecture.knobs]
    return table(
        ("winner", "predicted", "compiled"),
        rows,
        title=f"trial {winner.trial.index}",
        numbers=("predicted", "compiled"),
    )


def _figures(cost: Cost | None) -> dict[str, str]:
    if cost is None:
        return {}
    return {
        "latency": format_us(cost.latency_us),
        "latency, upper end": format_us(cost.latency_upper_us),
        "peak SRAM": format_bytes(cost.sram_bytes),
        "weights": format_bytes(cost.weight_bytes),
        **({} if cost.dram_bytes is None else {"DRAM traffic": format_bytes(cost.dram_bytes)}),
        "MACs": f"{cost.macs:,}",
    }


def _finalists(result: SearchResult) -> Any:
    headers = ("finalist", "accuracy", "test", "latency", "predicted", "SRAM", "weights", "inside the budget")
    rows = []
    for finalist in result.finalists:
        predicted = finalist.trial.cost
        rows.append(
            (
                f"trial {finalist.trial.index}",
                _percent(finalist.accuracy),
                _percent(finalist.accuracy_test),
                format_us(finalist.cost.latency_us),
                format_us(predicted.latency_us) if predicted else "",
                format_bytes(finalist.cost.sram_bytes),
                format_bytes(finalist.cost.weight_bytes),
                "yes" if finalist.verdict.passed else "NO",
            )
        )
    return table(headers, rows, numbers=headers[1:-1])


def _curated(report: CurationReport) -> str:
    dropped = sum(len(knob.dropped) for knob in report.knobs)
    kept = sum(len(knob.kept) for knob in report.knobs)
    sizes = f"{report.cardinality_before:.1e} to {report.cardinality_after:.1e} architectures"
    return f"dropped {dropped} of {dropped + kept} values that {report.target} would run badly or not at all: {sizes}"


def _refused(result: SearchResult) -> int:
    return sum(trial.cost is None for trial in result.trials)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
