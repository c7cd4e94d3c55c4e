"""`lanefit profile --predicted`: the same questions, answered by the estimator instead of the compiler."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from ..common.labels import short_label
from ..common.units import format_bytes, format_us
from .estimators import ready_estimator
from .model_argument import Model, ModelKind
from .output import Output
from .tables import judgement_line, pairs, table

if TYPE_CHECKING:
    from ..common.budget import Budget
    from ..estimator.network import Estimate
    from ..export.precision import Precision
    from ..targets.spec import EngineSpec


def predict(output: Output, model: Model, spec: EngineSpec, budget: Budget, precision: Precision) -> int:
    """Prints the estimate of an architecture and the verdict on the upper end of its interval."""
    from ..export.precision import with_precision
    from ..models.registry import families
    from ..nas.bridge import to_graph
    from ..nas.scoring import Cost

    if model.kind is not ModelKind.ARCHITECTURE or model.architecture is None:
        hint = "leave --predicted out: compiling takes seconds"
        raise ConfigError("only architectures of a family can be predicted", where="--predicted", hint=hint)
    family = families.get(model.architecture.family)
    graph = to_graph(model.layers())
    precision.check_patterns(graph.nodes)
    wanted = tuple(sorted({precision.of(node) for node in graph.nodes}))
    estimator = ready_estimator(output, spec, family, model.task(), precisions=wanted)
    found = estimator.estimate(with_precision(graph, precision))
    if found.extrapolated:
        output.warn("parts of this network lie outside of what the estimator was fitted on; its interval is no promise")
    verdict = Cost.of(found).check(budget)
    document = {"model": model.name, "target": spec.name, "verdict": verdict.as_dict(), "estimate": asdict(found)}
    output.result(document, judgement_line(verdict), *_tables(found))
    return 0 if verdict.passed else 1


def _tables(found: Estimate) -> list[Any]:
    rows = [
        (
            short_label(p.label),
            p.kind,
            f"{p.latency_us:.1f}",
            f"{p.latency_upper_us:.1f}",
            "yes" if p.extrapolated else "",
        )
        for p in found.parts
    ]
    headers = ("subgraph", "kind", "latency us", "upper us", "extrapolated")
    totals = [
        ("latency", f"{format_us(found.latency_us)}, at most {format_us(found.latency_upper_us)} in 19 of 20 cases"),
        ("peak SRAM", format_bytes(found.sram_bytes)),
        ("DRAM traffic", format_bytes(found.dram_bytes)),
        ("weights", format_bytes(found.weight_bytes)),
        ("MACs", f"{found.macs:,}"),
    ]
    return [table(headers, rows, numbers=headers[2:4], title="predicted"), pairs(totals, title="totals")]
