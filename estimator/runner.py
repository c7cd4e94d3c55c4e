"""Runners measure workloads on a device; `EngineRunner` measures on the engine's cycle model."""

from __future__ import annotations

from math import ceil
from typing import Protocol

from ..export.blank import with_zero_weights
from ..export.graph import Graph
from ..export.lower import LEAD, compile_subgraph, lower
from ..export.plan import plan
from ..kernels.search import Candidate, kernels
from ..kernels.subgraph import Subgraph
from ..targets.isa import Unit
from ..targets.program import Program
from ..targets.spec import EngineSpec
from ..targets.timing import Timing, simulate
from .measurement import Measurement, MeasurementKey, Workload, toolchain_hash
from .physics import Durations, flow


class Runner(Protocol):
    """Measures workloads on one device; `target` and `toolchain` become part of the measurement's key."""

    @property
    def target(self) -> str: ...

    @property
    def toolchain(self) -> str: ...

    def measure(self, workload: Workload) -> Measurement:
        """Raises `UnsupportedError` where the workload cannot run on the device."""
        ...


class EngineRunner:
    """The cycle model as a device: deterministic, so that one sample says all. Times are cycles."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec

    @property
    def target(self) -> str:
        return self.spec.digest()

    @property
    def toolchain(self) -> str:
        return toolchain_hash()

    def measure(self, workload: Workload) -> Measurement:
        """The phases of `physics.Durations`: one run alone, and one whose weights load during a step before."""
        subgraph, choice = workload.subgraph, candidate(workload, self.spec)
        found = self._durations(subgraph, choice)
        return Measurement(
            MeasurementKey(workload, self.target, self.toolchain),
            "cycles",
            (found.latency,),
            {"prefetched": found.prefetched, "slack": found.slack, "tail": found.tail},
            {"device": "cycle model", "clock_mhz": self.spec.clock_mhz},
        )

    def measure_network(self, graph: Graph) -> int:
        """Cycles of the whole compiled network; a graph without weights gets zeros."""
        return simulate(self.compile_network(graph)).cycles

    def compile_network(self, graph: Graph) -> Program:
        return lower(with_zero_weights(graph), plan(graph, self.spec), self.spec)

    def _durations(self, subgraph: Subgraph, choice: Candidate) -> Durations:
        unit = kernels.get(subgraph.kind).unit
        alone = simulate(compile_subgraph(subgraph, self.spec, choice))
        latency, loaded = _clock(alone, unit), _clock(alone, Unit.DMA_IN)
        tail = alone.cycles - latency if _clock(alone, Unit.DMA_OUT) else 0.0
        ahead = flow(subgraph, choice, self.spec).ahead
        if not ahead:
            return Durations(latency, latency, latency - loaded, tail)
        lead = ceil(ahead) + self.spec.dram_latency_cycles + self.spec.issue_cycles
        timing = simulate(compile_subgraph(subgraph, self.spec, choice, lead_cycles=lead))
        begun = next(label.end for label in timing.labels if label.label == LEAD)
        return Durations(latency, min(latency, _clock(timing, unit) - begun), latency - loaded, tail)


def candidate(workload: Workload, spec: EngineSpec) -> Candidate:
    """The workload's tiling with its closed-form cost and buffers."""
    subgraph, tiling = workload.subgraph, workload.tiling
    kernel = kernels.get(subgraph.kind)
    return Candidate(tiling, kernel.estimate(subgraph, spec, tiling), kernel.buffers(subgraph, spec, tiling))


def _clock(timing: Timing, unit: Unit) -> float:
    """When the unit is through with its queue."""
    return timing.units[unit].busy + timing.units[unit].stall
