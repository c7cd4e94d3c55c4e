"""CONV and CONV_ADD, for all runs at once, in blocks that fit the cache.

Integer sums are formed in float32 where Σ|w| × max|x − zero point| < 2^24 proves every partial sum exact in
any order, and in float64 otherwise (exact up to 2^53, beyond any accumulator that may not overflow). Sums of
BF16 products are formed in float32 in the order of the instruction set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from ..common.errors import ProgramFault
from .isa import RECORD_HEADER_BYTES, ConvMode, DType, Opcode
from .memory import Box, Memory
from .numerics import STAGE_FIELDS, Stage, rescale_elements
from .numerics_float import FloatStage, ordered_product
from .records import Records, parse_records
from .views import Extent, View, Window, check_target, output_extent, read_extent, read_window, write_extent

_BLOCK_ELEMENTS = 2**18
_FLOAT32_EXACT = 2**24


def execute_conv(sram: Memory, opcode: Opcode, f: Mapping[str, int]) -> int:
    """Runs one instruction; returns its multiply-accumulates per run."""
    out = output_extent(f)
    if out.elements == 0:
        return 0
    depthwise = f["mode"] == ConvMode.DEPTHWISE
    taps = f["kernel_h"] * f["kernel_w"]
    depth = taps * (1 if depthwise else f["channels_in"])
    sram.budget.check_work(out.elements * depth)
    inputs = (out.chan, out.channels) if depthwise else (0, f["channels_in"])
    window = read_window(sram, f, out, *inputs)
    target = View.of("out", f)
    check_target(sram, target, out, window)
    records = _read_records(sram, f, out, depth)
    result = _convolve(window, records, f, out)
    if opcode is Opcode.CONV_ADD:
        result = _add_residual(result, sram, f, out)
    write_extent(sram, target, out, result)
    return out.elements * depth


def _read_records(sram: Memory, f: Mapping[str, int], out: Extent, weights: int) -> list[Records]:
    """One entry when all runs have the same weights, which is the rule, else one per run."""
    if out.chan < f["weights_chan0"]:
        raise ProgramFault(f"channel {out.chan} lies before the first record, {f['weights_chan0']}")
    size = RECORD_HEADER_BYTES + weights * (DType.BF16.bytes if f["in_type"] == DType.BF16 else 1)
    address = f["weights_addr"] + (out.chan - f["weights_chan0"]) * f["record_pitch"]
    box = Box(address, (out.channels, size), (f["record_pitch"], 1))
    sram.check(box)
    if not box.has_distinct_bytes():
        raise ProgramFault(f"records of {box.counts[1]} bytes overlap at a pitch of {f['record_pitch']}")
    raw = sram.read(box)
    if len(raw) > 1 and (raw == raw[:1]).all():
        raw = raw[:1]
    return [parse_records(run, out.chan, f) for run in raw]


def _convolve(window: Window, records: list[Records], f: Mapping[str, int], out: Extent) -> NDArray[Any]:
    """The result of the output stage, (1 or runs, rows, columns, channels)."""
    runs = max(window.runs, len(records))
    kernel = _depthwise if f["mode"] == ConvMode.DEPTHWISE else _dense
    result = np.empty((runs, out.rows, out.cols, out.channels), records[0].stage.storage)
    if len(records) == 1:
        kernel(window, slice(0, window.runs), records[0], f, result)
        return result
    for run, own in enumerate(records):
        of_input = slice(run, run + 1) if window.runs > 1 else slice(0, 1)
        kernel(window, of_input, own, f, result[run : run + 1])
    return result


def _dense(window: Window, runs: slice, records: Records, f: Mapping[str, int], result: NDArray[Any]) -> None:
    kernel, stride = (f["kernel_h"], f["kernel_w"]), (f["stride_h"], f["stride_w"])
    bound = records.bound(f)
    dtype = _sum_type(records, bound)
    count, rows, cols, channels = result.shape
    depth = records.weights.shape[1]
    weights = np.ascontiguousarray(records.weights.T).astype(dtype)
    is_float = isinstance(records.stage, FloatStage)
    for block in blocks(count, depth * rows * cols):
        x = window.padded(_shifted(block, runs.start), 0, dtype, f["in_zp"])
        for r, c in _tiles(len(x), rows, cols, depth):
            patches = _patches(x, kernel, stride, r, c).reshape(-1, depth)
            sums = ordered_product(patches, weights) if is_float else patches @ weights
            shape = (len(x), r.stop - r.start, c.stop - c.start, channels)
            result[block, r, c] = records.stage.apply(sums, bound).reshape(shape)


def _sum_type(records: Records, bound: int) -> DTypeLike:
    exact = isinstance(records.stage, FloatStage) or bound < _FLOAT32_EXACT
    return np.float32 if exact else np.float64


def _patches(x: NDArray[Any], kernel: tuple[int, int], stride: tuple[int, int], r: slice, c: slice) -> NDArray[Any]:
    """Input windows of output positions r × c, (runs, rows, columns, kernel_h × kernel_w × channels)."""
    stride_h, stride_w = stride
    if kernel == (1, 1):
        return x[
            :, r.start * stride_h : r.stop * stride_h : stride_h, c.start * stride_w : c.stop * stride_w : stride_w
        ]
    windows = sliding_window_view(x, kernel, axis=(1, 2))[:, ::stride_h, ::stride_w][:, r, c]
    return windows.transpose(0, 1, 2, 4, 5, 3)


def _depthwise(window: Window, runs: slice, records: Records, f: Mapping[str, int], result: NDArray[Any]) -> None:
    kernel_w, stride_h, stride_w = f["kernel_w"], f["stride_h"], f["stride_w"]
    bound = records.bound(f)
    dtype = _sum_type(records, bound)
    count, rows, cols, channels = result.shape
    weights = np.tile(records.weights.T.astype(dtype), cols if stride_w == 1 else 1)  # one row of outputs per tap
    for block in blocks(count, 2 * rows * cols * channels):
        x = window.padded(_shifted(block, runs.start), 0, dtype, f["in_zp"])
        sums = np.zeros((len(x), rows, cols * channels) if stride_w == 1 else (len(x), rows, cols, channels), dtype)
        product = np.empty_like(sums)
        lines = x.reshape(*x.shape[:2], -1)
        for tap, row in enumerate(weights):
            down, right = divmod(tap, kernel_w)
            chosen = slice(down, down + (rows - 1) * stride_h + 1, stride_h)
            if stride_w == 1:
                source = lines[:, chosen, right * channels : (right + cols) * channels]
            else:
                source = x[:, chosen, right : right + (cols - 1) * stride_w + 1 : stride_w]
            with np.errstate(over="ignore", invalid="ignore"):  # infinities of bf16 operands are values
                np.multiply(source, row, out=product)
                np.add(sums, product, out=sums)
        result[block] = records.stage.apply(sums.reshape(len(x), rows, cols, channels), bound)


def _add_residual(y: NDArray[Any], sram: Memory, f: Mapping[str, int], out: Extent) -> NDArray[Any]:
    return add(y, f["conv_zp"], sram, f, out)


def add(a: NDArray[Any], zero_point: int, sram: Memory, f: Mapping[str, int], out: Extent) -> NDArray[Any]:
    """`a` plus the second view of the instruction, each through its RESCALE, and their sum through the last one."""
    b = read_extent(sram, View.of("b", f), out)
    if f["out_type"] == DType.BF16:
        with np.errstate(over="ignore", invalid="ignore"):  # opposite infinities are NaN, as everywhere in BF16
            return FloatStage.of(f).apply(a + b)
    stage = Stage.of(f["sum_multiplier"], f["sum_shift"], *(f[name] for name in STAGE_FIELDS))
    runs = max(len(a), len(b))
    result = np.empty((runs, *a.shape[1:]), stage.storage)
    for block in blocks(runs, 4 * out.elements):
        first = rescale_elements(_of_runs(a, block), zero_point, f["a_multiplier"], f["a_shift"])
        sums = first + rescale_elements(_of_runs(b, block), f["b_zp"], f["b_multiplier"], f["b_shift"])
        result[block] = stage.apply(sums, max(-int(sums.min()), int(sums.max())))
    return result


def _of_runs(values: NDArray[Any], block: slice) -> NDArray[Any]:
    """Values of some runs; those that all runs share stay as they are."""
    return values[block] if len(values) > 1 else values


def blocks(count: int, elements: int) -> Iterator[slice]:
    """Slices of runs whose work space, `elements` per run, stays in the cache."""
    size = max(1, _BLOCK_ELEMENTS // elements)
    return (slice(start, min(count, start + size)) for start in range(0, count, size))


def _tiles(runs: int, rows: int, cols: int, depth: int) -> Iterator[tuple[slice, slice]]:
    """Cuts the output positions so that their input windows stay small, for maps larger than a block."""
    row_step = max(1, _BLOCK_ELEMENTS // (runs * cols * depth))
    col_step = max(1, _BLOCK_ELEMENTS // depth) if row_step == 1 else cols
    for row in range(0, rows, row_step):
        for col in range(0, cols, col_step):
            yield slice(row, min(rows, row + row_step)), slice(col, min(cols, col + col_step))


def _shifted(block: slice, start: int) -> slice:
    return slice(block.start + start, block.stop + start)
