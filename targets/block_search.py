"""The output block of the block dataflow: of those that the buffers hold, the one with the least traffic per output.

Buffers: the input block and the sums of the output block, each twice (one in use, one being filled or drained), in
banks that are handed out in granules, beside banks that are reserved. The search sees every block whose extents are
whole micro-blocks.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .block_array import SUB_KERNEL, Block, Layer, input_channels
from .spec import EngineSpec
from .work import ceil_div

_SMALL = 4  # blocks of at most this many rows and columns are told apart by how much of the input they need
Extents = NDArray[np.float64]  # whole numbers; products of large ones would not fit 64-bit integers


def find_block(spec: EngineSpec, layer: Layer) -> Block:
    """The block for `layer`; a valid engine holds at least the smallest one of any layer."""
    shape = replace(layer, maximum=False, linear_in=False, linear_out=False)  # matter to time, not to the choice
    return _search(spec, shape)


@lru_cache(maxsize=2**12)
def _search(spec: EngineSpec, layer: Layer) -> Block:
    high, wide, _ = spec.array_blocks[0]
    limits = _round_up(min(layer.rows, spec.block_h), high), _round_up(min(layer.cols, spec.block_w), wide)
    rows = np.arange(high, limits[0] + 1, high, dtype=np.float64)[None, :, None]
    cols = np.arange(wide, limits[1] + 1, wide, dtype=np.float64)[None, None, :]
    depths = _depths(spec, layer)
    channels = np.array(depths, np.float64)[:, None, None]
    in_rows, in_cols = _inputs(spec, layer, rows, cols)
    depth_in = channels if layer.equal_depth else np.float64(input_channels(spec, layer))
    fits = _fits(spec, layer, rows * cols, channels, in_rows * in_cols, depth_in)
    traffic = np.where(fits, _traffic(layer, rows, cols, channels, in_rows, in_cols, depth_in), np.inf)
    d, r, c = _choose(layer, traffic, in_rows, in_cols, rows, cols)
    block_channels = depths[d]
    block_in = block_channels if layer.equal_depth else input_channels(spec, layer)
    return Block(int(rows[0, r, 0]), int(cols[0, 0, c]), block_channels, block_in)


def _round_up(value: int, multiple: int) -> int:
    return ceil_div(value, multiple) * multiple


def _depths(spec: EngineSpec, layer: Layer) -> list[int]:
    """Channel counts of a block: multiples of `block_c_step`, or the whole depth in whole micro-blocks."""
    deep = spec.array_blocks[0][2]
    limit = _round_up(min(layer.channels, spec.block_c), deep)
    step = max(deep, spec.block_c_step)
    found = [depth for depth in range(step, limit + 1, step) if depth <= limit]
    whole = _round_up(layer.channels, deep)
    return sorted({*found, whole} if whole <= spec.block_c else set(found))


def _inputs(spec: EngineSpec, layer: Layer, rows: Extents, cols: Extents) -> tuple[Extents, Extents]:
    high, wide, _ = spec.array_blocks[0]
    h = np.minimum((rows - 1) * layer.stride[0] + min(layer.kernel[0], SUB_KERNEL), rows * SUB_KERNEL)
    w = np.minimum((cols - 1) * layer.stride[1] + min(layer.kernel[1], SUB_KERNEL), cols * SUB_KERNEL)
    return -(-h // high) * high, -(-w // wide) * wide


def _fits(
    spec: EngineSpec, layer: Layer, plane: Extents, channels: Extents, plane_in: Extents, depth_in: Extents | np.float64
) -> NDArray[np.bool_]:
    bank = spec.buffer_bank_bytes
    fetched = plane_in * (-(-depth_in * layer.in_bytes // 8) * 8)
    sums = plane * (-(-channels // 8) * 8) * (4 if layer.in_bytes == 1 else 5)  # 40 bits for wide inputs
    input_banks = _granules(2 * -(-fetched // bank), spec.buffer_input_granule)
    sum_banks = _granules(2 * -(-sums // bank), spec.buffer_sum_granule)
    return input_banks + sum_banks + spec.buffer_reserved_banks <= spec.buffer_banks


def _granules(banks: Extents, granule: int) -> Extents:
    return -(-banks // granule) * granule


def _traffic(
    layer: Layer,
    rows: Extents,
    cols: Extents,
    channels: Extents,
    in_rows: Extents,
    in_cols: Extents,
    depth_in: Extents | np.float64,
) -> NDArray[np.float64]:
    """Bytes of input and weights fetched per output. Halved where the two input buffers hold the whole input."""
    parts = ceil_div(layer.kernel[0], SUB_KERNEL) * ceil_div(layer.kernel[1], SUB_KERNEL)
    blocks = (layer.rows / rows) * (layer.cols / cols)
    whole = -(-layer.rows // rows) * -(-layer.cols // cols)
    depth = layer.channels if layer.equal_depth else layer.channels_in
    fetched = in_rows * in_cols * depth * parts * blocks
    taps = 0 if layer.pooling else layer.kernel[0] * layer.kernel[1]
    weights = taps * depth * whole
    if not layer.equal_depth:
        fetched = fetched * -(-layer.channels // channels)
        weights = weights * layer.channels
    cost = (fetched + weights) / layer.outputs
    rows_in, cols_in = layer.input or (int(in_rows.max()), int(in_cols.max()))
    held = rows_in * cols_in * depth < 2 * in_rows * in_cols * depth_in
    return np.where(held, cost / 2, cost)


def _choose(
    layer: Layer, traffic: NDArray[np.float64], in_rows: Extents, in_cols: Extents, rows: Extents, cols: Extents
) -> tuple[int, int, int]:
    """The first block of least traffic; among small ones the one that needs the least of the input."""
    best = np.argwhere(traffic == traffic.min())
    rows_in, cols_in = layer.input or (int(in_rows.max()), int(in_cols.max()))

    def need(place: NDArray[np.int64]) -> int:
        return min(rows_in, int(in_rows[0, place[1], 0])) * min(cols_in, int(in_cols[0, 0, place[2]]))

    chosen = best[0]
    for place in best[1:]:
        small = rows[0, place[1], 0] <= _SMALL and cols[0, 0, place[2]] <= _SMALL
        if small and need(place) <= need(chosen):
            chosen = place
    return int(chosen[0]), int(chosen[1]), int(chosen[2])
