"""Rooflines of one subgraph: cycles and bytes below which no schedule can go."""

from __future__ import annotations

from math import prod

from ..targets.spec import EngineSpec
from .cuboid import cuboid_vector_cycles
from .cuboid_op import CuboidAttention
from .element_types import elements, input_type, output_bytes, output_type, second_type
from .function_ops import Resize
from .kernel import held_bytes
from .ops import Add, Conv2d, MatMul, Pool2d
from .subgraph import Memory, Subgraph
from .traits import touched, vector_reads


def array_bound(subgraph: Subgraph, spec: EngineSpec) -> float:
    """MACs at the array's peak rate; a depthwise convolution can use no input lanes beyond its taps."""
    peak = spec.parallelism * spec.int8_rate
    first = subgraph.ops[0]
    if isinstance(first, CuboidAttention) and first.dtype == "bf16":
        return first.macs / (spec.parallelism * elements(first).rate(spec))
    if isinstance(first, CuboidAttention):
        return first.int8_macs / peak + first.int8x16_macs / (spec.parallelism * spec.int8x16_rate)
    if isinstance(first, MatMul):
        return first.macs / (spec.parallelism * elements(first).rate(spec))
    depthwise_peak = spec.output_lanes * spec.positions * spec.depthwise_taps
    return sum(
        conv.macs / ((depthwise_peak if conv.depthwise else spec.parallelism) * elements(conv).rate(spec))
        for conv in subgraph.convs
    )


def vector_bound(subgraph: Subgraph, spec: EngineSpec) -> float:
    """Lane cycles of the vector unit; 0 for convolutions."""
    op = subgraph.ops[0]
    if isinstance(op, CuboidAttention):
        return cuboid_vector_cycles(op, spec)
    if subgraph.convs or isinstance(op, MatMul):
        return 0.0
    outputs = sum(prod(op.output) for op in subgraph.ops)
    passes = 1.0 if isinstance(op, Pool2d | Add) else vector_reads(op, spec)
    return outputs * passes * max(input_type(op).bytes, output_type(op).bytes) / spec.vector_lanes


def compute_bound(subgraph: Subgraph, spec: EngineSpec) -> float:
    """Cycles of the busiest of array, output stage and vector unit."""
    outputs = sum(prod(op.output) for op in subgraph.ops) if _uses_array(subgraph) else 0
    return max(array_bound(subgraph, spec), vector_bound(subgraph, spec), outputs / spec.output_elements_per_cycle)


def _uses_array(subgraph: Subgraph) -> bool:
    return bool(subgraph.convs) or isinstance(subgraph.ops[0], MatMul)


def input_bytes(subgraph: Subgraph) -> int:
    """Bytes of the input map that some window touches."""
    op = subgraph.ops[0]
    if isinstance(op, Resize):
        return touched(op) * input_type(op).bytes
    if not isinstance(op, Conv2d | Pool2d):
        return prod(op.input) * input_type(op).bytes
    w = op.window
    rows = _touched(op.input[0], op.output[0], w.kernel_h, w.stride_h, w.pad_h)
    cols = _touched(op.input[1], op.output[1], w.kernel_w, w.stride_w, w.pad_w)
    return rows * cols * op.input[2] * input_type(op).bytes


def loaded_bytes(subgraph: Subgraph) -> int:
    """Bytes that must come from DRAM, each once: constants, and what is needed of maps that are not resident."""
    total = sum(held_bytes(op) for op in subgraph.ops)
    if subgraph.input is not Memory.SRAM:
        total += input_bytes(subgraph)
    if subgraph.second not in (None, Memory.SRAM):
        total += second_bytes(subgraph)
    return total


def second_bytes(subgraph: Subgraph) -> int:
    """Size of the second operand."""
    return prod(subgraph.second_shape) * second_type(subgraph.ops[-1]).bytes


def stored_bytes(subgraph: Subgraph) -> int:
    return 0 if subgraph.output is Memory.SRAM else output_bytes(subgraph.ops[-1])


def step_bound(subgraph: Subgraph, spec: EngineSpec, loaded: int | None = None) -> float:
    """Cycles of the subgraph on its own: compute, or DRAM in both directions, or flash. `loaded` are the bytes that
    its program loads, fewer than its constants have where a weight decoder leaves out zeros."""
    constants = sum(held_bytes(op) for op in subgraph.ops)
    maps = loaded_bytes(subgraph) - constants + stored_bytes(subgraph)
    if spec.weight_decoder and loaded is not None:
        constants = min(constants, loaded)
    return max(compute_bound(subgraph, spec), memory_bound(constants, maps, spec))


def memory_bound(constant_bytes: int, map_bytes: int, spec: EngineSpec) -> float:
    """Cycles to move so much through DRAM, or constants through flash where the engine has one."""
    if not spec.flash_bytes_per_cycle:
        return (constant_bytes + map_bytes) / spec.dram_bytes_per_cycle
    return max(constant_bytes / spec.flash_bytes_per_cycle, map_bytes / spec.dram_bytes_per_cycle)


def _touched(extent: int, positions: int, kernel: int, stride: int, pad: int) -> int:
    """How many of `extent` rows lie under at least one of the windows."""
    end = (positions - 1) * stride - pad + kernel
    if stride <= kernel:
        return min(extent, end)
    return positions * kernel - pad - max(0, end - extent)
