"""The block dataflow: cycles and traffic of an array that works through its output in blocks.

A block of the output is computed while the input block of the next one is fetched and the block before passes the
output stage. Inside a block the array repeats one step for every micro-block: so many cycles for a *fold* of input
channels × kernel taps. Weights of a step are fetched again for each block, so a step lasts at least as long as its
weights take to arrive. Model: Arm's description of Ethos-U55 and U65, and the figures that its compiler publishes;
held against those figures by `benchmarks/engine/vela_layers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from .spec import EngineSpec
from .work import ceil_div

SUB_KERNEL = 8  # larger kernels run as several of at most 8 × 8 taps
RECORD_BYTES = 10  # bias, multiplier and shift of one channel in the product's encoding


class Traversal(StrEnum):
    """In which order the products of a block are formed."""

    DEPTH_FIRST = "depth first"  # a step sums many channels of one tap
    PART_KERNEL = "part kernel"  # a step sums few channels of several taps
    DEPTHWISE = "depthwise"  # a step sums several taps of one channel
    POOLING = "pooling"  # one tap after the other


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator, or the part of it that one instruction computes. `maximum` holds for pooling only."""

    rows: int
    cols: int
    channels: int
    channels_in: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    depthwise: bool = False
    pooling: bool = False
    maximum: bool = False
    in_bytes: int = 1
    out_bytes: int = 1
    rate: float = 1.0  # products per cycle relative to int8
    input: tuple[int, int] | None = None  # rows and columns of the input map where they limit what a block reads
    linear_in: bool = False  # channels of a position lie together, instead of bricks of `brick_channels`
    linear_out: bool = False

    @property
    def equal_depth(self) -> bool:
        """Each output channel sees only its own input channel."""
        return self.depthwise or self.pooling

    @property
    def outputs(self) -> int:
        return self.rows * self.cols * self.channels


@dataclass(frozen=True, slots=True)
class Block:
    """Extents of an output block, and the input channels that are fetched at a time."""

    rows: int
    cols: int
    channels: int
    channels_in: int


@dataclass(frozen=True, slots=True)
class BlockCost:
    """Cycles of a layer in given blocks. `mac` and `output` include one block of the other path, its fill or drain.

    `engine` is the longer of the two paths with commands, first fetch and last store; the memory bytes are what the
    memory moves, whole bursts counted. `plane_blocks` is how often weights are read.
    """

    mac: float
    output: float
    command: float
    engine: float
    map_bytes: float
    plane_blocks: int


def traversal(spec: EngineSpec, layer: Layer) -> Traversal:
    """Part kernel where the fold with taps fills the array better, and for images of few channels."""
    if layer.pooling:
        return Traversal.POOLING
    if layer.depthwise:
        return Traversal.DEPTHWISE
    (deep, _), (shallow, taps) = folds(spec)
    size, depth = layer.kernel[0] * layer.kernel[1], layer.channels_in
    if depth <= shallow:
        return Traversal.PART_KERNEL
    full = depth / (ceil_div(depth, deep) * deep)
    part = depth / (ceil_div(depth, shallow) * shallow) * size / (ceil_div(size, taps) * taps)
    return Traversal.PART_KERNEL if part >= full else Traversal.DEPTH_FIRST


def folds(spec: EngineSpec) -> tuple[tuple[int, int], tuple[int, int]]:
    """The fold with the most channels and the one with the most taps."""
    ordered = sorted(spec.array_folds, reverse=True)
    return ordered[0], ordered[-1]


def input_channels(spec: EngineSpec, layer: Layer) -> int:
    """Input channels of one block of a dense convolution: 32 bytes, or half of it when several taps share a step."""
    (deep, _), (shallow, _) = folds(spec)
    depth = deep // 2 if traversal(spec, layer) is Traversal.PART_KERNEL else deep
    return min(depth // layer.in_bytes, ceil_div(layer.channels_in, shallow) * shallow)


def input_extent(spec: EngineSpec, layer: Layer, rows: int, cols: int) -> tuple[int, int]:
    """Rows and columns of input behind a block of output, in whole micro-blocks; one sub-kernel at a time.

    Gaps between windows are fetched with them, up to the extent of whole sub-kernels.
    """
    high, wide, _ = spec.array_blocks[0]
    h = min((rows - 1) * layer.stride[0] + min(layer.kernel[0], SUB_KERNEL), rows * SUB_KERNEL)
    w = min((cols - 1) * layer.stride[1] + min(layer.kernel[1], SUB_KERNEL), cols * SUB_KERNEL)
    return ceil_div(h, high) * high, ceil_div(w, wide) * wide


def block_cost(spec: EngineSpec, layer: Layer, block: Block, *, bias_latency: int | None = None) -> BlockCost:
    """Cycles and bytes of `layer` in blocks of extents `block`; `bias_latency` of the memory that holds the biases."""
    clipped = (min(layer.rows, block.rows), min(layer.cols, block.cols), min(layer.channels, block.channels))
    high, wide, deep = _micro_block(spec, layer)
    plane, depth = ceil_div(clipped[0], high) * ceil_div(clipped[1], wide), ceil_div(clipped[2], deep)
    # The last block of a row or column is smaller; what counts is the number of micro-blocks.
    whole = ceil_div(layer.rows, high) * ceil_div(layer.cols, wide) * ceil_div(layer.channels, deep)
    blocks = whole / (plane * depth)
    mac = _mac_cycles(spec, layer, block, plane, depth)
    elements = clipped[0] * clipped[1] * clipped[2]
    output = elements / output_rate(spec, layer)
    latency = spec.sram_latency_cycles if bias_latency is None else bias_latency
    drained = max(output, 0.0 if layer.pooling else RECORD_BYTES * clipped[2] * latency / spec.outstanding_bytes)
    fetch, store = _transfers(spec, layer, block)
    command = (mac + drained + (abs(fetch - store) if blocks > 1 else 0.0)) / spec.blocks_in_flight
    slow_mac, slow_output = max(mac, command), max(drained, command)
    steady = slow_mac * blocks + slow_output if mac >= drained else slow_output * blocks + slow_mac
    down, across = ceil_div(layer.rows, block.rows), ceil_div(layer.cols, block.cols)
    through = ceil_div(layer.channels, block.channels)
    return BlockCost(
        mac=mac * blocks + drained,
        output=output * blocks + mac,
        command=command,
        engine=steady + fetch + store + 2 * spec.sram_latency_cycles,
        map_bytes=_map_bytes(spec, layer, block, down * across, through),
        plane_blocks=down * across,
    )


def output_rate(spec: EngineSpec, layer: Layer) -> float:
    """Elements per cycle of the output stage."""
    if layer.pooling and layer.maximum and spec.pool_elements_per_cycle:
        return spec.pool_elements_per_cycle
    return spec.output_elements_per_cycle


def _micro_block(spec: EngineSpec, layer: Layer) -> tuple[int, int, int]:
    """Micro-blocks of several rows lie flat where the map has one row: all of their positions are of use."""
    high, wide, deep = spec.array_blocks[0]
    flat = high > 1 and layer.rows == layer.kernel[0] == 1 and not layer.pooling and layer.cols % 2 == 0
    if flat:
        return 1, wide * high, deep
    return high, wide, deep


def _sub_kernels(kernel: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Taps of the parts of a kernel, and how many parts have so many: whole ones, and those at two borders."""
    for height, down in _parts(kernel[0]):
        for width, across in _parts(kernel[1]):
            yield height * width, down * across


def _parts(extent: int) -> list[tuple[int, int]]:
    whole, rest = divmod(extent, SUB_KERNEL)
    return [(size, count) for size, count in ((SUB_KERNEL, whole), (rest, 1)) if size and count]


def _mac_cycles(spec: EngineSpec, layer: Layer, block: Block, plane: int, depth: int) -> float:
    """Cycles of the array for one block of `plane` × `depth` micro-blocks."""
    order, deep = traversal(spec, layer), spec.array_blocks[0][2]
    (channels, _), (shallow, taps) = folds(spec)
    feed = channels * deep / spec.weight_bytes_per_cycle  # a weight block is as large in either fold
    step = max(feed, spec.step_cycles * plane) * depth
    cycles, repeats = 0.0, 1
    for size, count in _sub_kernels(layer.kernel):
        if order is Traversal.POOLING:
            steps = 1
            part = max(taps, size) * plane * depth * spec.pool_tap_cycles
        elif order is Traversal.DEPTH_FIRST:
            steps = size
            part = step * steps
        else:
            steps = ceil_div(size, taps)
            part = step * steps * (1 if order is Traversal.DEPTHWISE else ceil_div(block.channels_in, shallow))
        cycles += count * (part + _dependency(spec, steps, plane, depth))
    if not layer.equal_depth:
        repeats = ceil_div(layer.channels_in, block.channels_in)
    return cycles * repeats / layer.rate


def _dependency(spec: EngineSpec, steps: int, plane: int, depth: int) -> int:
    """Cycles lost where a step must await the sums of the one before, for want of another micro-block to work on."""
    if plane > 1:
        return 0
    return spec.dependency_cycles * (steps if depth == 1 else (steps - 1) * depth)


def _transfers(spec: EngineSpec, layer: Layer, block: Block) -> tuple[float, float]:
    """Cycles to fetch the input of a block and to store the block."""
    rows, cols = _clip(layer, input_extent(spec, layer, block.rows, block.cols))
    depth = min(layer.channels, block.channels) if layer.equal_depth else min(layer.channels_in, block.channels_in)
    fetch = rows * cols * depth * layer.in_bytes * _read_waste(spec, layer, block)
    stored = min(layer.rows, block.rows) * min(layer.cols, block.cols) * min(layer.channels, block.channels)
    store = stored * layer.out_bytes * _write_waste(spec, layer, block)
    return fetch / spec.sram_bytes_per_cycle, store / spec.sram_bytes_per_cycle


def _clip(layer: Layer, extent: tuple[int, int]) -> tuple[int, int]:
    rows, cols = layer.input or extent
    return min(extent[0], rows), min(extent[1], cols)


def _map_bytes(spec: EngineSpec, layer: Layer, block: Block, plane: int, through: int) -> float:
    """Bytes of feature maps that the memory moves: every block fetches its input, overlaps again."""
    rows, cols = _clip(layer, input_extent(spec, layer, block.rows, block.cols))
    depth = layer.channels if layer.equal_depth else layer.channels_in * through
    parts = ceil_div(layer.kernel[0], SUB_KERNEL) * ceil_div(layer.kernel[1], SUB_KERNEL)
    read = plane * rows * cols * depth * parts * layer.in_bytes * _read_waste(spec, layer, block)
    return read + layer.outputs * layer.out_bytes * _write_waste(spec, layer, block)


def _read_waste(spec: EngineSpec, layer: Layer, block: Block) -> float:
    """Bytes moved per byte of use: a run shorter than a burst costs the burst."""
    _, cols = input_extent(spec, layer, block.rows, block.cols)
    depth = block.channels if layer.equal_depth else block.channels_in
    run = spec.brick_channels * cols
    if layer.linear_in:
        run = depth * (cols if depth == layer.channels_in else 1)
    return max(1.0, spec.sram_burst_bytes / (run * layer.in_bytes))


def _write_waste(spec: EngineSpec, layer: Layer, block: Block) -> float:
    run = spec.brick_channels * block.cols
    if layer.linear_out:
        whole = block.channels == layer.channels <= spec.brick_channels
        run = block.channels * block.cols if whole else min(spec.brick_channels, block.channels)
    return max(1.0, spec.sram_burst_bytes / (run * layer.out_bytes))


def bias_bytes(cost: BlockCost, layer: Layer) -> int:
    """Bytes of biases and scales read for a layer: for each block, in units of 16 bytes."""
    return 0 if layer.pooling else cost.plane_blocks * ceil(RECORD_BYTES * layer.channels / 16) * 16
