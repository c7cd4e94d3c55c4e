"""Work of one instruction on an array of the block dataflow, in the block that `block_search` finds for it.

Maps lie in bricks of channels, as on the product; constants are in SRAM, where LOAD has put them, and every block in
the plane reads them again.
"""

from __future__ import annotations

from math import prod

from .block_array import RECORD_BYTES, BlockCost, Layer, block_cost
from .block_search import find_block
from .spec import EngineSpec
from .work import Elements, Work


def block_conv_work(
    spec: EngineSpec,
    extent: tuple[int, int, int],
    channels_in: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    *,
    depthwise: bool,
    residual: bool,
    elements: Elements,
) -> Work:
    """CONV or CONV_ADD; a residual is added in a pass of its own, as by ADD."""
    layer = _layer(spec, extent, channels_in, kernel, stride, elements, depthwise=depthwise)
    depth = 1 if depthwise else channels_in
    constants = extent[2] * (prod(kernel) * depth * elements.second.bytes + RECORD_BYTES)
    work = _work(spec, layer, block_cost(spec, layer, find_block(spec, layer)), constants)
    if not residual:
        return work
    added = layer.outputs / (spec.add_elements_per_cycle or spec.output_elements_per_cycle)
    moved = 3 * layer.outputs * elements.out.bytes / spec.sram_bytes_per_cycle
    return Work(array=work.array + added, output=work.output + added, sram=work.sram + moved)


def block_matmul_work(spec: EngineSpec, groups: int, m: int, n: int, k: int, *, bias: bool, elements: Elements) -> Work:
    """MATMUL: each group is a 1 × 1 convolution of m positions, whose second operand takes the place of weights."""
    layer = _layer(spec, (m, 1, n), k, (1, 1), (1, 1), elements)
    constants = n * k * elements.second.bytes
    one = _work(spec, layer, block_cost(spec, layer, find_block(spec, layer)), constants)
    biases = 4 * m * n / spec.sram_bytes_per_cycle if bias else 0.0
    return Work(array=groups * one.array, output=groups * one.output, sram=groups * (one.sram + biases))


def block_pool_work(
    spec: EngineSpec,
    extent: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    *,
    maximum: bool,
    elements: Elements,
) -> Work:
    """POOL, and REQUANTISE as a window of one: the array and its output stage in the place of vector lanes."""
    layer = _layer(spec, extent, extent[2], kernel, stride, elements, pooling=True, maximum=maximum)
    cost = block_cost(spec, layer, find_block(spec, layer))
    return Work(vector=cost.engine, sram=cost.map_bytes / spec.sram_bytes_per_cycle)


def _layer(
    spec: EngineSpec,
    extent: tuple[int, int, int],
    channels_in: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    elements: Elements,
    *,
    depthwise: bool = False,
    pooling: bool = False,
    maximum: bool = False,
) -> Layer:
    return Layer(
        *extent, channels_in, kernel, stride, depthwise, pooling, maximum,
        in_bytes=elements.first.bytes, out_bytes=elements.out.bytes, rate=elements.rate(spec),
    )  # fmt: skip


def _work(spec: EngineSpec, layer: Layer, cost: BlockCost, constants: int) -> Work:
    """The longer of the two paths bears the commands, the first fetch and the last store."""
    moved = cost.map_bytes + constants * cost.plane_blocks
    array, output = (cost.engine, cost.output) if cost.mac >= cost.output else (cost.mac, cost.engine)
    return Work(array=array, output=output, sram=moved / spec.sram_bytes_per_cycle)
