"""`Profile`: where the time and memory of a compiled network go, and whether that is inside a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from ..common.budget import Budget
from ..targets.spec import EngineSpec
from ..targets.timing import simulate
from ..targets.trace import chrome_trace, counter_events
from .advice import advise
from .compiler import Compiled, SubgraphReport
from .judgement import Judgement, judge, passive, refused
from .occupancy import Span, levels, spans
from .placement import Placement
from .planned import PlannedStep


@dataclass(frozen=True, slots=True)
class Row:
    """One subgraph of one region. `share` is what it adds to the network's cycles, as a part of them."""

    region: int
    step: PlannedStep
    report: SubgraphReport
    share: float

    @property
    def added_cycles(self) -> float:
        """Cycles that the network would lack without it: its own, but for those under the subgraph before."""
        return self.report.cycles - self.report.hidden_cycles

    def as_dict(self) -> dict[str, Any]:
        """JSON values, units in the names."""
        figures = asdict(self.report)
        for name in ("array", "output", "vector", "memory", "lower_bound"):
            figures[f"{name}_cycles"] = figures.pop(name)
        added = {"added_cycles": self.added_cycles, "share": self.share}
        return {"region": self.region, "placement": "engine", **added, **figures}


@dataclass(frozen=True, slots=True)
class Profile:
    """A network on one engine. Regions run one after the other; the time of CPU operators is not modelled."""

    spec: EngineSpec
    compiled: tuple[Compiled, ...]
    placements: tuple[Placement, ...] = ()

    @property
    def cycles(self) -> int:
        return sum(item.timing.cycles for item in self.compiled)

    @property
    def latency_us(self) -> float:
        return sum(item.latency_us for item in self.compiled)

    @property
    def lower_bound_cycles(self) -> float:
        """Roofline of the regions, added up."""
        return sum(item.lower_bound_cycles for item in self.compiled)

    @property
    def sram_bytes(self) -> int:
        return max((item.sram_bytes for item in self.compiled), default=0)

    @property
    def macs(self) -> int:
        return sum(report.macs for item in self.compiled for report in item.report)

    @property
    def refused(self) -> tuple[Placement, ...]:
        """Operators that run on the CPU because a rule or the compiler refused them."""
        return refused(self.placements)

    @property
    def passive(self) -> tuple[Placement, ...]:
        """Quantise, dequantise and reshape operators on the CPU at the borders of the engine's part."""
        return passive(self.placements)

    def rows(self) -> Iterator[Row]:
        """Every subgraph in the order of execution."""
        for region, item in enumerate(self.compiled):
            for step, report in zip(item.plan.steps, item.report, strict=True):
                added = report.cycles - report.hidden_cycles
                yield Row(region, step, report, added / self.cycles if self.cycles else 0.0)

    def worst(self, count: int = 5) -> list[tuple[Row, str]]:
        """The subgraphs that take longest, each with one suggestion."""
        rows = sorted(self.rows(), key=lambda row: -row.added_cycles)[:count]
        return [(row, advise(row.step, row.report, self.spec)) for row in rows]

    def totals(self) -> dict[str, float]:
        """Figures of the whole network, units in the names."""
        macs, cycles = self.macs, self.cycles
        return {
            "latency_us": self.latency_us,
            "cycles": cycles,
            "lower_bound_cycles": self.lower_bound_cycles,
            "sram_bytes": self.sram_bytes,
            "weight_bytes": sum(item.weight_bytes for item in self.compiled),
            "dram_bytes": sum(item.dram_bytes for item in self.compiled),
            "copied_bytes": sum(item.copied_bytes for item in self.compiled),
            "free_moves": sum(item.free_moves for item in self.compiled),
            "macs": macs,
            "utilisation": macs / (cycles * self.spec.parallelism) if cycles else 0.0,
            "engine_regions": len(self.compiled),
            "cpu_operators": len(self.refused),
        }

    def judge(self, budget: Budget) -> Judgement:
        """See `judgement.judge`."""
        weights = sum(item.weight_bytes for item in self.compiled)
        found = {"latency_us": self.latency_us, "sram_bytes": self.sram_bytes, "weight_bytes": weights}
        return judge(budget, self.placements, **found)

    def sram_spans(self) -> tuple[Span, ...]:
        """What lies in SRAM when, regions one after the other."""
        starts = accumulate((item.latency_us for item in self.compiled), initial=0.0)
        regions = zip(self.compiled, starts, strict=False)
        return tuple(span for item, start_us in regions for span in spans(item, start_us))

    def timeline(self) -> dict[str, Any]:
        """All regions as one Chrome trace, one after the other, in microseconds, with SRAM as a counter in bytes."""
        document: dict[str, Any] = {}
        start_us = 0.0
        for item in self.compiled:
            trace = chrome_trace(simulate(item.program, trace=True), name=self.spec.name)
            for event in trace["traceEvents"]:
                if "ts" in event:
                    event["ts"] += start_us
            if document:
                document["traceEvents"] += [event for event in trace["traceEvents"] if "ts" in event]
            document = document or trace
            start_us += item.latency_us
        if document:
            found = levels(self.sram_spans())
            document["traceEvents"] += counter_events("SRAM", ((at.start_us, at.bytes_by_kind) for at in found))
        return document or {"traceEvents": []}
