"""Graph → planned, lowered and timed program of one engine region, with a report per subgraph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..common.errors import UnsupportedError
from ..common.optimise import Optimise
from ..common.units import cycles_to_us
from ..kernels.bounds import array_bound, input_bytes, memory_bound, second_bytes, step_bound, vector_bound
from ..kernels.element_types import output_bytes, precision_of
from ..targets.program import Program
from ..targets.spec import EngineSpec
from ..targets.timing import LabelTiming, Timing, simulate
from .graph import Graph
from .lower import lower
from .movement import expansions
from .plan import plan
from .planned import Plan, PlannedStep
from .squeeze import SLOWER


@dataclass(frozen=True, slots=True)
class SubgraphReport:
    """One placed subgraph.

    `cycles` is its own time. `hidden_cycles` of it passed under the subgraph before, while weights were
    prefetched or results drained: `cycles − hidden_cycles` of all subgraphs add up to those of the network.
    `bound` names the resource that holds it; `array`, `output`, `vector` and `memory` are the cycles of work that
    each resource had; `lower_bound` is the roofline of this subgraph alone. `precision` is that of its operators, of
    conversions both.
    """

    label: str
    kind: str
    precision: str
    nodes: tuple[str, ...]
    cycles: float
    hidden_cycles: float
    lower_bound: float
    bound: str
    array: float
    output: float
    vector: float
    memory: float
    dram_read_bytes: int
    dram_write_bytes: int
    weight_bytes: int
    macs: int
    utilisation: float


@dataclass(frozen=True, slots=True)
class Compiled:
    """A region's program with its plan, timing and report."""

    program: Program
    plan: Plan
    timing: Timing
    report: tuple[SubgraphReport, ...]
    graph: Graph

    @property
    def latency_us(self) -> float:
        return cycles_to_us(self.timing.cycles, self.program.spec.clock_mhz)

    @property
    def sram_bytes(self) -> int:
        """Peak SRAM of the memory plan."""
        return self.plan.sram_bytes

    @property
    def weight_bytes(self) -> int:
        return self.plan.weight_bytes + sum(self.graph.tensors[name].size_bytes for name in self.graph.fixed)

    @property
    def dram_bytes(self) -> int:
        """DRAM traffic in both directions."""
        return sum(r.dram_read_bytes + r.dram_write_bytes for r in self.report)

    @property
    def lower_bound_cycles(self) -> float:
        """Roofline of the whole region: the busiest of array, vector unit and DRAM, if nothing ever waited."""
        return network_lower_bound(self.graph, self.plan, self.program.spec, len(self.program.constants))

    @property
    def copied_bytes(self) -> int:
        """Bytes that are moved only to lie elsewhere; `free_moves` are the maps that took none."""
        return sum(self.graph.tensors[node.output].size_bytes for node in self.graph.nodes if node.copies)

    @property
    def free_moves(self) -> int:
        """Maps that are written or read as parts of others."""
        return len(self.graph.views)


def compile_graph(
    graph: Graph, spec: EngineSpec, *, sram_limit_bytes: int | None = None, optimise: Optimise = Optimise.LATENCY
) -> Compiled:
    """Compiles one region.

    Raises:
        UnsupportedError: `where` names the node that has no tiling on this engine.
        ModelError: the graph has shapes but no weights.
    """
    found: list[Compiled] = []
    refused: list[UnsupportedError] = []
    for expanded in expansions(graph):
        try:
            found.append(_compiled(expanded, spec, sram_limit_bytes, optimise))
        except UnsupportedError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    fastest = min(item.timing.cycles for item in found)
    if optimise is Optimise.LATENCY:
        return min(found, key=lambda item: (item.timing.cycles, item.sram_bytes))
    near = [item for item in found if item.timing.cycles <= SLOWER * fastest]
    return min(near, key=lambda item: (item.sram_bytes, item.timing.cycles))


def _compiled(graph: Graph, spec: EngineSpec, sram_limit_bytes: int | None, optimise: Optimise) -> Compiled:
    planned = plan(graph, spec, sram_limit_bytes=sram_limit_bytes, optimise=optimise)
    program = lower(graph, planned, spec)
    timing = simulate(program)
    labels = {item.label: item for item in timing.labels}
    ordered = [labels[step.group.label] for step in planned.steps]
    ends = [0.0, *(item.end for item in ordered)]
    report = tuple(_report(s, t, before, spec) for s, t, before in zip(planned.steps, ordered, ends, strict=False))
    return Compiled(program, planned, timing, report, graph)


def network_lower_bound(graph: Graph, planned: Plan, spec: EngineSpec, constant_bytes: int | None = None) -> float:
    """The largest of array work, vector work and compulsory DRAM or flash bytes, each summed over the network.

    Compulsory are all weights (`constant_bytes` where a weight decoder lets them take less), every output, and of
    every input what its most demanding reader touches. Copies that another layout of the maps might do without count
    nothing.
    """
    subgraphs = [step.subgraph for step in planned.steps]
    array = sum(array_bound(subgraph, spec) for subgraph in subgraphs)
    needed = (step.subgraph for step in planned.steps if not step.group.nodes[0].copies)
    vector = sum(vector_bound(subgraph, spec) for subgraph in needed)
    constants = planned.weight_bytes if constant_bytes is None else min(constant_bytes, planned.weight_bytes)
    memory = memory_bound(constants, _compulsory_port_bytes(graph, planned), spec)
    return max(array, vector, memory)


def _compulsory_port_bytes(graph: Graph, planned: Plan) -> int:
    ports: dict[str, int] = {}
    for step in planned.steps:
        for name, size in _port_bytes(step):
            ports[name] = max(ports.get(name, 0), size)
    whole: dict[str, int] = {}
    for name, size in ports.items():
        root = graph.root(name)
        whole[root] = min(graph.tensors[root].size_bytes, whole.get(root, 0) + size)
    return sum(whole.values())


def _port_bytes(step: PlannedStep) -> Iterator[tuple[str, int]]:
    """Maps that the step exchanges with the host, with the bytes it needs of each."""
    subgraph, group = step.subgraph, step.group
    if subgraph.input.is_shared:
        yield group.input, input_bytes(subgraph)
    if group.second and subgraph.second and subgraph.second.is_shared:
        yield group.second, second_bytes(subgraph)
    for name in group.nodes[-1].extra:  # as large as the global vectors that it replaces
        yield name, second_bytes(subgraph)
    if subgraph.output.is_shared:
        yield group.output, output_bytes(subgraph.ops[-1])


def _report(step: PlannedStep, timing: LabelTiming, before: float, spec: EngineSpec) -> SubgraphReport:
    """`before` is when the subgraph before ended, its stores included: what ran for this one until then is hidden."""
    moved = max(timing.dram, timing.flash)
    loaded = min(max(0.0, before - timing.start), moved)
    busiest = max(timing.array, timing.output, timing.vector, moved)
    hidden = max(loaded, busiest - timing.cycles)
    cycles = timing.cycles + hidden
    return SubgraphReport(
        label=step.group.label,
        kind=step.subgraph.kind,
        precision=precision_of(step.subgraph.ops),
        nodes=tuple(node.name for node in step.group.nodes),
        cycles=cycles,
        hidden_cycles=hidden,
        lower_bound=step_bound(step.subgraph, spec, timing.dram_read_bytes),
        bound=timing.bound,
        array=timing.array,
        output=timing.output,
        vector=timing.vector,
        memory=max(moved, timing.sram),
        dram_read_bytes=timing.dram_read_bytes,
        dram_write_bytes=timing.dram_write_bytes,
        weight_bytes=step.weight_bytes,
        macs=step.subgraph.macs,
        utilisation=step.subgraph.macs / (cycles * spec.parallelism) if cycles else 0.0,
    )
