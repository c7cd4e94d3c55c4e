"""Cycles of one data instruction, by bound. The timing model and the kernels' closed forms share these.

Array (weights stationary): for every block of output lanes, tap and block of input lanes the
weights are fetched, then stream over a group of positions that the accumulators can hold:
cycles = Σ max(positions / micro-block, weight block bytes / weight feed). The output stage, the SRAM
ports and the array are pipelined, so an instruction lasts as long as the slowest of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .isa import Opcode
from .spec import EngineSpec


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
) -> Work:
    """Work of CONV / CONV_ADD on `rows` × `cols` × `channels` outputs; `taps` = kernel_h × kernel_w."""
    if not (rows and cols and channels):
        return Work()
    out_blocks = ceil_div(channels, spec.output_lanes)
    if depthwise:
        steps, block_bytes = ceil_div(taps, spec.depthwise_taps), spec.output_lanes * spec.depthwise_taps
    else:
        steps, block_bytes = taps * ceil_div(channels_in, spec.input_lanes), spec.output_lanes * spec.input_lanes
    fetch = block_bytes / spec.weight_bytes_per_cycle
    blocks = ceil_div(rows, spec.positions_h) * ceil_div(cols, spec.positions_w)
    capacity = max(1, spec.accumulator_bytes // (4 * spec.output_lanes * spec.positions))
    full, rest = divmod(blocks, capacity)
    streaming = full * max(capacity, fetch) + (max(rest, fetch) if rest else 0)
    outputs = rows * cols * channels
    read = steps * out_blocks * (blocks * spec.positions * block_bytes / (1 if depthwise else spec.output_lanes))
    return Work(
        array=streaming * steps * out_blocks / spec.int8_rate,
        output=outputs / spec.output_elements_per_cycle,
        sram=(read + outputs * (2 if residual else 1)) / spec.sram_bytes_per_cycle,
    )


def vector_work(spec: EngineSpec, outputs: int, reads_per_output: float) -> Work:
    """Work of a vector instruction that reads `reads_per_output` elements for each of its `outputs`."""
    touched = outputs * max(1, reads_per_output)
    return Work(vector=touched / spec.vector_lanes, sram=(touched + outputs) / spec.sram_bytes_per_cycle)


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
