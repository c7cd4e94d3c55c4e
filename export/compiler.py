"""Graph → planned, lowered and timed program of one engine region, with a report per subgraph."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..common.units import cycles_to_us
from ..kernels.ops import Conv2d
from ..kernels.subgraph import Memory
from ..targets.cost import ceil_div
from ..targets.program import Program
from ..targets.spec import EngineSpec
from ..targets.timing import LabelTiming, Timing, simulate
from .graph import Graph
from .lower import lower
from .plan import plan
from .planned import Plan, PlannedStep


@dataclass(frozen=True, slots=True)
class SubgraphReport:
    """One placed subgraph.

    `cycles` is its own time. `hidden_cycles` of it passed under the subgraph before, while weights were
    prefetched: `cycles − hidden_cycles` of all subgraphs add up to those of the network. `bound` names the
    resource that holds it; `array`, `output`, `vector` and `memory` are the cycles of work that each resource
    had; `lower_bound` is the roofline of this subgraph alone.
    """

    label: str
    kind: str
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

    @property
    def latency_us(self) -> float:
        return cycles_to_us(self.timing.cycles, self.program.spec.clock_mhz)

    @property
    def sram_bytes(self) -> int:
        """Peak SRAM of the memory plan."""
        return self.plan.sram_bytes

    @property
    def weight_bytes(self) -> int:
        return self.plan.weight_bytes

    @property
    def dram_bytes(self) -> int:
        """DRAM traffic in both directions."""
        return sum(r.dram_read_bytes + r.dram_write_bytes for r in self.report)

    @property
    def lower_bound_cycles(self) -> float:
        """Roofline of the whole region: its busiest resource, if nothing ever waited."""
        return network_lower_bound(self.plan, self.program.spec)


def compile_graph(graph: Graph, spec: EngineSpec, *, sram_limit_bytes: int | None = None) -> Compiled:
    """Compiles one region.

    Raises:
        UnsupportedError: `where` names the node that has no tiling on this engine.
        ModelError: the graph has shapes but no weights.
    """
    planned = plan(graph, spec, sram_limit_bytes=sram_limit_bytes)
    program = lower(graph, planned, spec)
    timing = simulate(program)
    labels = {item.label: item for item in timing.labels}
    ordered = [labels[step.group.label] for step in planned.steps]
    ends = [0.0, *(item.end for item in ordered)]
    report = tuple(_report(s, t, before, spec) for s, t, before in zip(planned.steps, ordered, ends, strict=False))
    return Compiled(program, planned, timing, report)


def array_lower_bound(step: PlannedStep, spec: EngineSpec) -> float:
    """MACs at the array's peak rate; a depthwise convolution can use no input lanes beyond its taps."""
    peak = spec.parallelism * spec.int8_rate
    depthwise_peak = spec.output_lanes * spec.positions * spec.depthwise_taps * spec.int8_rate
    return sum(conv.macs / (depthwise_peak if conv.depthwise else peak) for conv in step.subgraph.convs)


def step_lower_bound(step: PlannedStep, spec: EngineSpec) -> float:
    """Cycles below which no schedule of this subgraph can go: array, output stage, vector unit, compulsory bytes."""
    outputs = sum(prod(op.output) for op in step.subgraph.ops)
    output = outputs / spec.output_elements_per_cycle if step.subgraph.convs else 0.0
    vector = 0.0 if step.subgraph.convs else outputs / spec.vector_lanes
    memory = _compulsory_bytes(step) / spec.dram_bytes_per_cycle
    return max(array_lower_bound(step, spec), output, vector, memory)


def network_lower_bound(planned: Plan, spec: EngineSpec) -> float:
    """The largest of array work, output work, vector work and compulsory DRAM bytes (weights, inputs, outputs), summed
    over the network."""
    array = sum(array_lower_bound(step, spec) for step in planned.steps)
    vector = sum(
        prod(op.output) / spec.vector_lanes
        for step in planned.steps
        if not step.subgraph.convs
        for op in step.subgraph.ops
    )
    ports: dict[str, int] = {}
    for step in planned.steps:
        for name, memory, shape in _maps(step):
            if memory is Memory.HOST:
                ports[name] = prod(shape)
    memory = (planned.weight_bytes + sum(ports.values())) / spec.dram_bytes_per_cycle
    return max(array, vector, memory)


def _maps(step: PlannedStep) -> list[tuple[str, Memory, tuple[int, int, int]]]:
    first, last = step.subgraph.ops[0], step.subgraph.ops[-1]
    maps = [
        (step.group.input, step.subgraph.input, first.input),
        (step.group.output, step.subgraph.output, last.output),
    ]
    if step.group.second and step.subgraph.second:
        maps.append((step.group.second, step.subgraph.second, last.output))
    return maps


def _compulsory_bytes(step: PlannedStep) -> int:
    """Bytes that must cross the DRAM port for this step, each once: weights and the maps that are not resident.

    Rows and columns that no window touches need not be read.
    """
    total = step.weight_bytes
    for name, memory, shape in _maps(step):
        if memory is Memory.SRAM:
            continue
        first = step.subgraph.ops[0]
        if name == step.group.input and isinstance(first, Conv2d) and first.window.stride_h > first.window.kernel_h:
            shape = (ceil_div(shape[0], first.window.stride_h), shape[1], shape[2])
        total += prod(shape)
    return total


def _report(step: PlannedStep, timing: LabelTiming, before: float, spec: EngineSpec) -> SubgraphReport:
    """`before` is when the subgraph before ended: what DMA did for this one until then is hidden."""
    hidden = min(max(0.0, before - timing.start), timing.dram)
    cycles = timing.cycles + hidden
    return SubgraphReport(
        label=step.group.label,
        kind=step.subgraph.kind,
        nodes=tuple(node.name for node in step.group.nodes),
        cycles=cycles,
        hidden_cycles=hidden,
        lower_bound=step_lower_bound(step, spec),
        bound=timing.bound,
        array=timing.array,
        output=timing.output,
        vector=timing.vector,
        memory=max(timing.dram, timing.sram),
        dram_read_bytes=timing.dram_read_bytes,
        dram_write_bytes=timing.dram_write_bytes,
        weight_bytes=step.weight_bytes,
        macs=step.subgraph.macs,
        utilisation=step.subgraph.macs / (cycles * spec.parallelism) if cycles else 0.0,
    )
