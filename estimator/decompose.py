"""From an operator graph to the workloads that the compiler would run: its own plan, seen by the estimator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..export.graph import Graph
from ..export.plan import plan
from ..export.planned import PlannedStep
from ..targets.spec import EngineSpec
from .measurement import Workload
from .traffic import traffic


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The steps in execution order, with the sizes that follow from them exactly. All sizes in bytes."""

    steps: tuple[PlannedStep, ...]
    sram_bytes: int
    weight_bytes: int
    dram_bytes: int
    macs: int


def decompose(graph: Graph, spec: EngineSpec, *, sram_limit_bytes: int | None = None) -> Decomposition:
    """The compiler's plan of `graph`; shapes suffice, weights are not looked at.

    Raises:
        UnsupportedError: naming the node that has no tiling on this engine.
    """
    planned = plan(graph, spec, sram_limit_bytes=sram_limit_bytes)
    moved = sum(traffic(step.subgraph, step.choice.tiling).dram_bytes for step in planned.steps)
    return Decomposition(planned.steps, planned.sram_bytes, planned.weight_bytes, moved, graph.macs)


def workload(step: PlannedStep) -> Workload:
    return Workload(step.subgraph, step.choice.tiling)


def distinct_workloads(graphs: Iterable[Graph], spec: EngineSpec) -> list[Workload]:
    """Every workload of the graphs once, in the order of first appearance."""
    found: dict[Workload, None] = {}
    for graph in graphs:
        found.update(dict.fromkeys(workload(step) for step in decompose(graph, spec).steps))
    return list(found)
