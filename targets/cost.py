"""Cycles of one data instruction, by bound. The timing model and the kernels' closed forms share these.

Three dataflows: "block" is `block_work.py`, "output-stationary" is `systolic.py`, the first of all is here.

Array (weights stationary): for every block of output lanes and every fold of taps and input channels the
weights are fetched, then stream over a group of positions that the accumulators can hold:
cycles = Σ max(positions / micro-block, weight block bytes / weight feed). Where the engine lists several folds and
micro-blocks, the instruction takes those with the fewest cycles. The output stage, the SRAM
ports and the array are pipelined, so an instruction lasts as long as the slowest of them.
"""

from __future__ import annotations

from functools import lru_cache

from .block_work import block_conv_work, block_matmul_work, block_pool_work
from .isa import Opcode
from .spec import EngineSpec
from .systolic import systolic_work
from .work import INT8, Elements, Work, ceil_div

__all__ = [
    "INT8", "Elements", "Work", "ceil_div", "constants_latency", "constants_work", "conv_work", "dma_work",
    "matmul_work", "passes", "pool_work", "resize_reads", "vector_work",
]  # fmt: skip


@lru_cache(maxsize=2**15)
def conv_work(
    spec: EngineSpec,
    rows: int,
    cols: int,
    channels: int,
    channels_in: int,
    kernel_h: int,
    kernel_w: int,
    *,
    depthwise: bool,
    residual: bool,
    stride: tuple[int, int] = (1, 1),
    elements: Elements = INT8,
) -> Work:
    """Work of CONV / CONV_ADD on `rows` × `cols` × `channels` outputs, each over `channels_in` inputs per tap."""
    if not (rows and cols and channels):
        return Work()
    if spec.dataflow == "block":
        return block_conv_work(
            spec, (rows, cols, channels), channels_in, (kernel_h, kernel_w), stride,
            depthwise=depthwise, residual=residual, elements=elements,
        )  # fmt: skip
    taps = kernel_h * kernel_w
    extent, outputs = (rows, cols, channels), rows * cols * channels
    written = outputs * (2 if residual else 1) * elements.out.bytes
    if spec.dataflow == "output-stationary":
        depth, each, groups = (1, 1, channels) if depthwise else (channels_in, channels, 1)
        return systolic_work(spec, rows * cols, each, taps * depth, groups=groups, moved=written, elements=elements)
    if depthwise:
        lanes = spec.depthwise_taps * spec.step_cycles
        steps = ceil_div(taps, lanes)
    else:
        lanes = spec.input_lanes * spec.step_cycles
        steps = min(ceil_div(taps, t) * ceil_div(channels_in, c) for c, t in spec.array_folds)
    found = _stationary(spec, spec.array_blocks, extent, steps, lanes, elements, shared=not depthwise)
    return _fewest(spec, outputs, found, written)


def matmul_work(spec: EngineSpec, groups: int, m: int, n: int, k: int, *, bias: bool, elements: Elements) -> Work:
    """Work of MATMUL on `groups` products of m × k by k × n elements: b is the stationary operand of every group."""
    if not (groups and m and n):
        return Work()
    if spec.dataflow == "block":
        return block_matmul_work(spec, groups, m, n, k, bias=bias, elements=elements)
    outputs = groups * m * n
    lanes = spec.input_lanes * spec.step_cycles
    steps = min(ceil_div(k, channels) for channels, _ in spec.array_folds)
    moved = outputs * elements.out.bytes + (4 * outputs if bias else 0)
    if spec.dataflow == "output-stationary":
        return systolic_work(spec, m, n, k, groups=groups, moved=moved, elements=elements)
    # The rows of a product have no second dimension to tile.
    blocks = tuple((high * wide, 1, deep) for high, wide, deep in spec.array_blocks)
    found = _stationary(spec, blocks, (m, 1, n), steps, lanes, elements, shared=True)
    return _fewest(spec, outputs, [(groups * array, groups * read) for array, read in found], moved)


def _fewest(spec: EngineSpec, outputs: int, choices: list[tuple[float, float]], moved: float) -> Work:
    """The best of several (array cycles, SRAM bytes read), with `moved` further bytes and the output stage."""
    output, rate = outputs / spec.output_elements_per_cycle, spec.sram_bytes_per_cycle
    if len(choices) == 1:
        ((array, read),) = choices
        return Work(array=array, output=output, sram=(read + moved) / rate)
    ported = [(array, (read + moved) / rate) for array, read in choices]
    _, array, sram = min((max(array, output, sram), array, sram) for array, sram in ported)
    return Work(array=array, output=output, sram=sram)


def _stationary(
    spec: EngineSpec,
    micro_blocks: tuple[tuple[int, int, int], ...],
    extent: tuple[int, int, int],
    steps: int,
    lanes: int,
    elements: Elements,
    *,
    shared: bool,
) -> list[tuple[float, float]]:
    """By micro-block, cycles of the array, and bytes of input that it reads, for `extent` outputs of `steps` × `lanes`
    products each.

    `shared`: the output lanes read the same inputs. Neighbouring positions share nothing: a micro-block of more
    positions reads more bytes per cycle.
    """
    rows, cols, channels = extent
    rate = elements.rate(spec) / spec.step_cycles
    capacity = max(1, spec.accumulator_bytes // (elements.sum_bytes * spec.output_lanes * spec.positions))
    first_bytes, fetched_bytes, feed = elements.first.bytes, lanes * elements.second.bytes, spec.weight_bytes_per_cycle
    found: list[tuple[float, float]] = []
    for high, wide, deep in micro_blocks:
        out_blocks, blocks = ceil_div(channels, deep), ceil_div(rows, high) * ceil_div(cols, wide)
        read = steps * out_blocks * (blocks * high * wide * lanes * (1 if shared else deep)) * first_bytes
        found.append((_streaming(blocks, capacity, deep * fetched_bytes / feed, rate) * steps * out_blocks, read))
    return found


def _streaming(blocks: int, capacity: int, fetch: float, rate: float) -> float:
    """Cycles in which `blocks` micro-blocks of positions pass one block of weights, which takes `fetch` cycles to come
    each time that the accumulators, which hold `capacity` of them, are full."""
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


def pool_work(
    spec: EngineSpec,
    extent: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    *,
    maximum: bool,
    elements: Elements = INT8,
) -> Work:
    """Work of POOL, or of REQUANTISE as a window of one, on `extent` outputs: on the array where it can pool."""
    rows, cols, channels = extent
    if spec.pool_elements_per_cycle and rows and cols and channels:
        return block_pool_work(spec, extent, kernel, stride, maximum=maximum, elements=elements)
    return vector_work(spec, rows * cols * channels, kernel[0] * kernel[1], elements)


def passes(spec: EngineSpec, opcode: Opcode) -> float:
    """How often the vector unit goes over the operands of an operator."""
    match opcode:
        case Opcode.TABLE:
            return spec.table_passes
        case Opcode.SOFTMAX | Opcode.SOFTMAX_LOG:
            return spec.softmax_passes
        case Opcode.NORM:
            return spec.norm_passes
        case Opcode.ADD if spec.add_elements_per_cycle:
            return max(1.0, spec.vector_lanes / (2 * spec.add_elements_per_cycle))  # of two operands each
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


def constants_work(spec: EngineSpec, runs: int, run_bytes: int, sram_beats: int) -> Work:
    """Work of a transfer of constants: from flash where the engine has one, else from DRAM; see `dma_work`."""
    if not spec.flash_bytes_per_cycle:
        return dma_work(spec, runs, run_bytes, sram_beats)
    per_run = ceil_div(run_bytes, spec.flash_burst_bytes) * spec.flash_burst_bytes
    return Work(
        flash=runs * per_run / spec.flash_bytes_per_cycle,
        sram=max(sram_beats / spec.sram_banks, runs * run_bytes / spec.sram_bytes_per_cycle),
    )


def constants_latency(spec: EngineSpec) -> int:
    """Cycles from the end of a transfer of constants on its channel until they are in SRAM."""
    return spec.flash_latency_cycles if spec.flash_bytes_per_cycle else spec.dram_latency_cycles
