"""Features of a workload: what the regressor sees. Every column is named once, in `COLUMNS`."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod

import numpy as np
from numpy.typing import NDArray

from ..kernels.bounds import memory_bound
from ..kernels.cuboid import cuboid_work
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.element_types import elements, input_bytes, input_type, output_bytes, output_type
from ..kernels.kernel import held_bytes
from ..kernels.matmul import product_work
from ..kernels.ops import Conv2d, MatMul, Pool2d, Window
from ..kernels.search import Candidate
from ..kernels.subgraph import Kind, Memory, Subgraph
from ..kernels.traits import vector_op_work
from ..targets.cost import Work, ceil_div, conv_work
from ..targets.spec import EngineSpec
from .physics import PHASES, Durations, Flow, flow, lower_bounds, physics
from .traffic import traffic

KINDS: tuple[Kind, ...] = tuple(Kind)
_FOUNDATION = ("kind", *(f"physics_{phase}" for phase in PHASES), *(f"bound_{phase}" for phase in PHASES))
_CYCLES = ("log_latency", "log_compute", "log_dma", "log_ahead", "log_load", "log_slack", "log_tail")
_SHARES = (
    "compute_share", "dma_share", "exposed_share", "ahead_share",
    "array_share", "output_share", "sram_share", "vector_share", "dram_share",
)  # fmt: skip
_LANES = ("input_lane_use", "output_lane_use", "row_use", "column_use", "macs_per_output")
_BYTES = ("log_dram_bytes", "log_weight_bytes", "log_map_bytes", "log_workspace_bytes")
_TILES = ("row_tiles", "channel_tiles", "last_row_tile", "last_channel_tile", "weights_outer")
_SHAPE = ("operators", "kernel", "stride", "rows", "columns", "channels_in", "channels_out")
_PLACES = ("input_in_dram", "output_in_dram", "second_in_dram", "host_order", "residual")
_ELEMENTS = ("input_element_bytes", "output_element_bytes", "array_rate")
COLUMNS: tuple[str, ...] = (
    *_FOUNDATION, *_CYCLES, *_SHARES, *_LANES, *_BYTES, *_TILES, *_SHAPE, *_PLACES, *_ELEMENTS,
    *(f"is_{kind}" for kind in KINDS),
)  # fmt: skip
COLUMN: dict[str, int] = {name: number for number, name in enumerate(COLUMNS)}


def feature_matrix(work: Sequence[tuple[Subgraph, Candidate]], spec: EngineSpec) -> NDArray[np.float64]:
    """One row per workload, one column per name in `COLUMNS`; everything finite, every roofline positive."""
    rows = [_row(subgraph, choice, spec) for subgraph, choice in work]
    return np.array(rows, np.float64).reshape(len(rows), len(COLUMNS))


def _row(subgraph: Subgraph, choice: Candidate, spec: EngineSpec) -> list[float]:
    durations, bounds, cut = physics(subgraph, choice, spec), lower_bounds(subgraph, spec), flow(subgraph, choice, spec)
    kind = subgraph.kind
    return [
        float(KINDS.index(kind)),
        *_phase_values(durations),
        *_phase_values(bounds),
        *_cycles(choice, durations, cut),
        *_shares(subgraph, choice, durations, cut, spec),
        *_lanes(subgraph, spec),
        *_bytes(subgraph, choice),
        *_tiling(subgraph, choice, cut),
        *_shape(subgraph),
        *_places(subgraph),
        *_elements(subgraph, spec),
        *(float(kind is other) for other in KINDS),
    ]


def _phase_values(durations: Durations) -> tuple[float, ...]:
    return durations.latency, durations.prefetched, durations.slack, durations.tail


def _cycles(choice: Candidate, durations: Durations, cut: Flow) -> tuple[float, ...]:
    estimate = choice.estimate
    values = (
        durations.latency,
        estimate.compute,
        estimate.dma,
        cut.ahead,
        cut.weights,
        durations.slack,
        durations.tail,
    )
    return tuple(log2(1 + value) for value in values)


def _shares(
    subgraph: Subgraph, choice: Candidate, durations: Durations, cut: Flow, spec: EngineSpec
) -> tuple[float, ...]:
    """Closed-form parts and the work of each resource, relative to the latency."""
    estimate, work = choice.estimate, _work(subgraph, spec)
    values = (
        estimate.compute, estimate.dma, estimate.exposed, cut.ahead,
        work.array, work.output, work.sram, work.vector, work.dram,
    )  # fmt: skip
    return tuple(value / durations.latency for value in values)


def _work(subgraph: Subgraph, spec: EngineSpec) -> Work:
    """Cycles of each resource if every operator ran as one instruction."""
    parts = [_operator_work(subgraph, number, spec) for number in range(len(subgraph.ops))]
    return Work(
        array=sum(w.array for w in parts),
        output=sum(w.output for w in parts),
        vector=sum(w.vector for w in parts),
        sram=sum(w.sram for w in parts),
        dram=memory_bound(sum(held_bytes(op) for op in subgraph.ops), 0, spec),
    )


def _operator_work(subgraph: Subgraph, number: int, spec: EngineSpec) -> Work:
    op = subgraph.ops[number]
    rows, cols, channels = op.output
    if isinstance(op, Conv2d):
        residual = subgraph.second is not None and number == len(subgraph.ops) - 1
        w = op.window
        return conv_work(
            spec, rows, cols, channels, op.input[2], w.kernel_h, w.kernel_w,
            depthwise=op.depthwise, residual=residual, stride=(w.stride_h, w.stride_w), elements=elements(op),
        )  # fmt: skip
    if isinstance(op, MatMul):
        return product_work(op, spec, rows)
    if isinstance(op, CuboidAttention):
        return cuboid_work(op, spec)
    return vector_op_work(op, spec, op.output)


def _lanes(subgraph: Subgraph, spec: EngineSpec) -> tuple[float, ...]:
    """How full input lanes, output lanes and the micro-block are, weighted by MACs; the vector lanes elsewhere."""
    outputs = sum(prod(op.output) for op in subgraph.ops)
    if not subgraph.convs:
        use = _use(subgraph.ops[0].output[2], spec.vector_lanes)
        return 1.0, use, 1.0, 1.0, 0.0
    total = subgraph.macs
    sums = [0.0] * 4
    for conv in subgraph.convs:
        depth, lanes = (conv.window.taps, spec.depthwise_taps) if conv.depthwise else (conv.input[2], spec.input_lanes)
        uses = (
            _use(depth, lanes),
            _use(conv.output[2], spec.output_lanes),
            _use(conv.output[0], spec.positions_h),
            _use(conv.output[1], spec.positions_w),
        )
        sums = [before + use * conv.macs / total for before, use in zip(sums, uses, strict=True)]
    return (*sums, log2(1 + total / outputs))


def _use(extent: int, lanes: int) -> float:
    return extent / (ceil_div(extent, lanes) * lanes)


def _bytes(subgraph: Subgraph, choice: Candidate) -> tuple[float, ...]:
    weights = sum(held_bytes(op) for op in subgraph.ops)
    maps = input_bytes(subgraph.ops[0]) + output_bytes(subgraph.ops[-1])
    moved = traffic(subgraph, choice.tiling).dram_bytes
    return tuple(log2(1 + value) for value in (moved, weights, maps, choice.workspace_bytes))


def _tiling(subgraph: Subgraph, choice: Candidate, cut: Flow) -> tuple[float, ...]:
    """Tiles per axis, and how full the last one is."""
    height, _, channels = subgraph.ops[-1].output
    tiling, op = choice.tiling, subgraph.ops[0]
    if isinstance(op, CuboidAttention):
        height = op.cuboids.count
    last_row = 1 - (cut.rows * tiling.rows - height) / tiling.rows
    last_channel = 1 - (cut.channels * tiling.channels - channels) / tiling.channels
    return float(cut.rows), float(cut.channels), last_row, last_channel, float(tiling.weights_outer)


def _shape(subgraph: Subgraph) -> tuple[float, ...]:
    windows = [op.window if isinstance(op, Conv2d | Pool2d) else Window(1, 1) for op in subgraph.ops]
    kernel, stride = max(w.kernel_h for w in windows), max(w.stride_h for w in windows)
    height, width, channels_out = subgraph.ops[-1].output
    values = (len(subgraph.ops), kernel, stride, height, width, subgraph.ops[0].input[2], channels_out)
    return tuple(float(value) for value in values)


def _places(subgraph: Subgraph) -> tuple[float, ...]:
    places = (subgraph.input, subgraph.output, subgraph.second)
    outside = [float(memory not in (None, Memory.SRAM)) for memory in places]
    return (*outside, float(Memory.HOST in places), float(subgraph.second is not None))


def _elements(subgraph: Subgraph, spec: EngineSpec) -> tuple[float, ...]:
    first, last = subgraph.ops[0], subgraph.ops[-1]
    return float(input_type(first).bytes), float(output_type(last).bytes), elements(first).rate(spec)
