"""Cycles of one data instruction, by bound. The timing model and the kernels' closed forms share these.

Array (weights stationary): for every block of output lanes, tap and block of input lanes the
weights are fetched, then stream over a group of positions that the accumulators can hold:
cycles = Σ max(positions / micro-block, weight block bytes / weight feed). The output stage, the SRAM
ports and the array are pipelined, so an instruction lasts as long as the slowest of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .isa import DType, Opcode
from .spec import EngineSpec

_CACHED_BYTES = {DType.INT8: 4, DType.INT16: 8, DType.BF16: 4}  # one partial sum in the accumulators


@dataclass(frozen=True, slots=True)
class Elements:
    """Element types of an array or vector instruction: first operand, weights or second operand, output."""

    first: DType = DType.INT8
    second: DType = DType.INT8
    out: DType = DType.INT8

    def rate(self, spec: EngineSpec) -> float:
        """Multiply-accumulates per cycle as a share of the engine's parallelism."""
        return {DType.INT16: spec.int8x16_rate, DType.BF16: spec.bf16_rate}.get(self.first, spec.int8_rate)

    @property
    def sum_bytes(self) -> int:
        """Bytes of one partial sum: int32, float32, or 48 bits in the place of 64."""
        return _CACHED_BYTES[self.first]


INT8 = Elements()


@dataclass(frozen=True, slots=True)
class Work:
    """Cycles that one instruction needs of each resource, not counting issue."""

    array: float = 0.0
    output: float = 0.0
    vector: float = 0.0
    sram: float = 0.0
    dram: float = 0.0

    @property
    def cycles(self) -> float:
        return max(self.array, self.output, self.vector, self.sram, self.dram)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def conv_work(
    spec: EngineSpec,
    rows: int,
    cols: int,
    channels: int,
    channels_in: int,
    taps: int,
    *,
    depthwise: bool,
    residual: bool,
    elements: Elements = INT8,
) -> Work:
    """Work of CONV / CONV_ADD on `rows` × `cols` × `channels` outputs; `taps` = kernel_h × kernel_w."""
    if not (rows and cols and channels):
        return Work()
    out_blocks = ceil_div(channels, spec.output_lanes)
    if depthwise:
        steps, block_bytes = ceil_div(taps, spec.depthwise_taps), spec.output_lanes * spec.depthwise_taps
    else:
        steps, block_bytes = taps * ceil_div(channels_in, spec.input_lanes), spec.output_lanes * spec.input_lanes
    blocks = ceil_div(rows, spec.positions_h) * ceil_div(cols, spec.positions_w)
    streaming = _streaming(spec, blocks, block_bytes * elements.second.bytes, elements)
    outputs = rows * cols * channels
    lanes_read = blocks * spec.positions * block_bytes / (1 if depthwise else spec.output_lanes)
    read = steps * out_blocks * lanes_read * elements.first.bytes
    return Work(
        array=streaming * steps * out_blocks,
        output=outputs / spec.output_elements_per_cycle,
        sram=(read + outputs * (2 if residual else 1) * elements.out.bytes) / spec.sram_bytes_per_cycle,
    )


def matmul_work(spec: EngineSpec, groups: int, m: int, n: int, k: int, *, bias: bool, elements: Elements) -> Work:
    """Work of MATMUL on `groups` products of m × k by k × n elements: b is the stationary operand of every group."""
    if not (groups and m and n):
        return Work()
    blocks = ceil_div(n, spec.output_lanes) * ceil_div(k, spec.input_lanes)
    block_bytes = spec.output_lanes * spec.input_lanes * elements.second.bytes
    streaming = _streaming(spec, ceil_div(m, spec.positions), block_bytes, elements)
    outputs = groups * m * n
    read = groups * blocks * m * spec.input_lanes * elements.first.bytes + (4 * outputs if bias else 0)
    return Work(
        array=groups * blocks * streaming,
        output=outputs / spec.output_elements_per_cycle,
        sram=(read + outputs * elements.out.bytes) / spec.sram_bytes_per_cycle,
    )


def _streaming(spec: EngineSpec, blocks: int, fetch_bytes: int, elements: Elements) -> float:
    """Cycles in which `blocks` micro-blocks of positions pass one block of weights, which is fetched each time
    that the accumulators are full."""
    fetch, rate = fetch_bytes / spec.weight_bytes_per_cycle, elements.rate(spec)
    capacity = max(1, spec.accumulator_bytes // (elements.sum_bytes * spec.output_lanes * spec.positions))
    full, rest = divmod(blocks, capacity)
    return full * max(capacity / rate, fetch) + (max(rest / rate, fetch) if rest else 0.0)


def vector_work(spec: EngineSpec, outputs: int, reads_per_output: float, elements: Elements = INT8) -> Work:
    """Work of a vector instruction that reads `reads_per_output` elements for each of its `outputs`.

    Lanes are 8 bits wide: an element of two bytes takes two of them.
    """
    touched = outputs * max(1, reads_per_output)
    wide = max(elements.first.bytes, elements.out.bytes)
    moved = touched * elements.first.bytes + outputs * elements.out.bytes
    return Work(vector=touched * wide / spec.vector_lanes, sram=moved / spec.sram_bytes_per_cycle)


def passes(spec: EngineSpec, opcode: Opcode) -> float:
    """How often the vector unit goes over the operands of an operator."""
    match opcode:
        case Opcode.TABLE:
            return spec.table_passes
        case Opcode.SOFTMAX:
            return spec.softmax_passes
        case Opcode.NORM:
            return spec.norm_passes
        case _:
            return 1.0


def resize_reads(*, bilinear: bool) -> int:
    """Elements read for each output of a RESIZE."""
    return 4 if bilinear else 1


def dma_work(spec: EngineSpec, runs: int, run_bytes: int, sram_beats: int) -> Work:
    """Work of a transfer of `runs` contiguous DRAM runs of `run_bytes`; partial bursts cost whole ones.

    `sram_beats` is the number of contiguous SRAM runs: a scattered write needs at least a cycle for each.
    """
    per_run = ceil_div(run_bytes, spec.dram_burst_bytes) * spec.dram_burst_bytes
    return Work(
        dram=runs * per_run / spec.dram_bytes_per_cycle,
        sram=max(sram_beats / spec.sram_banks, runs * run_bytes / spec.sram_bytes_per_cycle),
    )
