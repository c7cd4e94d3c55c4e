"""Closed-form durations of a workload: the part of an estimate that needs no measurement.

Four durations describe a step to its neighbours (see `boundary.py`); all in cycles:

latency      from nothing loaded to the last result, the step alone
prefetched   the same when its first weight tiles were loaded while the step before computed
slack        from the end of its last load to its last result, when the next step's weights may load
tail         from the last result to the end of the last store
"""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.bounds import compute_bound, loaded_bytes, memory_bound
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.cuboid_tiles import boxes
from ..kernels.element_types import input_type, output_type, second_type
from ..kernels.function_ops import Reduce
from ..kernels.kernel import Buffer, Role, Tiling, held_bytes
from ..kernels.ops import Conv2d, MatMul, Op
from ..kernels.pipeline import is_resident_conv, resident_conv
from ..kernels.search import Candidate
from ..kernels.subgraph import Memory, Subgraph
from ..targets.cost import ceil_div, constants_work, dma_work
from ..targets.spec import EngineSpec

PHASES = ("latency", "prefetched", "slack", "tail")


@dataclass(frozen=True, slots=True)
class Durations:
    """One value per phase, in cycles."""

    latency: float
    prefetched: float
    slack: float
    tail: float


@dataclass(frozen=True, slots=True)
class Flow:
    """How a tiling moves tiles: `rows` × `channels` of them, each with so many cycles of compute, of map loads and of
    stores; `weights` loads one tile of every weight buffer, `ahead` fills all their slots."""

    rows: int
    channels: int
    compute: float
    incoming: float
    outgoing: float
    weights: float
    ahead: float

    @property
    def count(self) -> int:
        return self.rows * self.channels


def flow(subgraph: Subgraph, choice: Candidate, spec: EngineSpec) -> Flow:
    """The flow of a tiling, from its buffers."""
    rows, columns = _tile_counts(subgraph, choice.tiling)
    moved = dict.fromkeys(Role, 0.0)
    ahead = 0.0
    for buffer in choice.buffers:
        if buffer.role is not Role.ROLLING:
            cycles = spec.issue_cycles + _transfer_cycles(subgraph, buffer, choice.tiling, spec)
            moved[buffer.role] += cycles
            ahead += cycles * buffer.depth if buffer.role is Role.WEIGHTS else 0.0
    compute = choice.estimate.compute / (rows * columns)
    return Flow(rows, columns, compute, moved[Role.INCOMING], moved[Role.OUTGOING], moved[Role.WEIGHTS], ahead)


def _tile_counts(subgraph: Subgraph, tiling: Tiling) -> tuple[int, int]:
    """Tiles along rows and channels; tiles of cuboids are counted as rows."""
    first = subgraph.ops[0]
    if isinstance(first, CuboidAttention):
        return sum(box.tile_count for box in boxes(first.cuboids, tiling.rows)), 1
    height, _, channels = subgraph.ops[-1].output
    return ceil_div(height, tiling.rows), ceil_div(channels, tiling.channels)


def _transfer_cycles(subgraph: Subgraph, buffer: Buffer, tiling: Tiling, spec: EngineSpec) -> float:
    """One slot of a buffer to or from DRAM, whose order decides the length of contiguous runs."""
    size = buffer.slot_bytes
    if buffer.role is Role.WEIGHTS:
        return constants_work(spec, 1, size, 1).cycles
    first, last = subgraph.ops[0], subgraph.ops[-1]
    memory = {"second": subgraph.second, "output": subgraph.output}.get(buffer.name, subgraph.input)
    whole = len(subgraph.ops) > 1 or (buffer.name == "input" and _sums_channels(first))
    shape = {"second": subgraph.second_shape, "output": last.output}.get(buffer.name, first.input)
    kind = {"second": second_type(last), "output": output_type(last)}.get(buffer.name, input_type(first))
    (height, width, channels), element = shape, kind.bytes
    cut = channels if whole else min(channels, tiling.channels)
    if memory is Memory.HOST and channels > 1:
        run = width * element if height > 1 else size
        return dma_work(spec, ceil_div(size, run), run, size // element if width * height > 1 else 1).cycles
    if cut >= channels:
        return dma_work(spec, 1, size, 1).cycles
    run = cut * element
    return dma_work(spec, size // run, run, size // run).cycles


def _sums_channels(op: Op) -> bool:
    """True where one channel of the result needs all channels of the input."""
    return isinstance(op, MatMul | Reduce) or (isinstance(op, Conv2d) and not op.depthwise)


def physics(subgraph: Subgraph, choice: Candidate, spec: EngineSpec) -> Durations:
    """Durations by closed form, positive except for the tail of a step that stores nothing."""
    if is_resident_conv(subgraph, choice.tiling):
        alone = resident_conv(subgraph, choice.tiling, spec)
        ready = resident_conv(subgraph, choice.tiling, spec, ahead=True)
        return Durations(alone.ended, ready.ended, alone.ended - alone.loaded, 0.0)
    f, delay = flow(subgraph, choice, spec), spec.dram_latency_cycles
    compute, first = choice.estimate.compute, f.weights + f.incoming
    # Two slots let the last two stores wait until the compute is over, so that they do not hold it up.
    moved = max(0.0, choice.estimate.dma - min(2, f.count) * f.outgoing)
    latency = max(compute + (first + delay if first else 0.0), moved + delay + f.compute if moved else 0.0)
    tail = delay + max(f.outgoing, min(2, f.count) * f.outgoing - f.compute) if f.outgoing else 0.0
    return Durations(latency, _prefetched(subgraph, f, latency, delay), _slack(f, latency, delay), tail)


def _prefetched(subgraph: Subgraph, f: Flow, latency: float, delay: float) -> float:
    """A single operator that also loads maps awaits their memory before it asks for weights: nothing is won."""
    if f.incoming and len(subgraph.ops) == 1:
        return latency
    hidden = f.ahead if f.incoming or not f.ahead else f.ahead + delay
    return max(f.compute * f.count, latency - hidden)


def _slack(f: Flow, latency: float, delay: float) -> float:
    """The last tile's loads end when the tile two before it is done, or as late as the loads themselves allow."""
    if not f.incoming:
        return max(f.compute, latency - f.ahead)
    period = (latency - f.weights - f.incoming) / f.count
    return max(f.compute + delay, min(2, f.count) * period - f.incoming * (f.count > 1))


def lower_bounds(subgraph: Subgraph, spec: EngineSpec) -> Durations:
    """Durations below which no schedule can go: array, output stage, vector unit, bytes that must come from DRAM."""
    compute = compute_bound(subgraph, spec)
    stored = 0 if subgraph.output is Memory.SRAM else 1
    constants = sum(held_bytes(op) for op in subgraph.ops)
    loaded = memory_bound(constants, loaded_bytes(subgraph) - constants, spec)
    return Durations(max(compute, loaded), compute, 1.0, stored)
