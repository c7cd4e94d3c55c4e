"""The vector unit: ADD, POOL and REQUANTISE here, the others in `execute_function.py`; for all runs at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ProgramFault
from .execute_conv import add, blocks
from .execute_function import execute_function
from .isa import Opcode, PoolMode
from .memory import Memory
from .numerics import Stage, requantise_int8
from .views import Extent, View, Window, check_target, output_extent, read_window, write_extent


def execute_vector(sram: Memory, opcode: Opcode, f: Mapping[str, int]) -> int:
    """Runs one instruction; returns the input elements that it touches per run."""
    if opcode not in (Opcode.POOL, Opcode.ADD, Opcode.REQUANTISE):
        return execute_function(sram, opcode, f)
    out = output_extent(f)
    if out.elements == 0:
        return 0
    work = out.elements * f.get("kernel_h", 1) * f.get("kernel_w", 1)
    sram.budget.check_work(work)
    window = read_window(sram, f, out, out.chan, out.channels)
    target = View.of("out", f)
    check_target(sram, target, out, window if opcode is Opcode.POOL else None)
    if opcode is Opcode.POOL:
        result = _maximum(window, f, out) if f["mode"] == PoolMode.MAX else _sum(window, f, out)
    elif opcode is Opcode.ADD:
        a = window.padded(slice(None), f["in_zp"], np.int8)
        result = add(a, f["in_zp"], sram, f, out)
    else:
        a = window.padded(slice(None), f["in_zp"], np.int8)
        result = requantise_int8(a, f["in_zp"], _stage(f))
    write_extent(sram, target, out, result)
    return work


def _stage(f: Mapping[str, int]) -> Stage:
    return Stage.of(f["multiplier"], f["shift"], f["out_zp"], f["act_min"], f["act_max"])


def _maximum(window: Window, f: Mapping[str, int], out: Extent) -> NDArray[np.int8]:
    _check_windows("row", out.row, out.rows, f["kernel_h"], f["stride_h"], f["pad_h"], f["in_rows"])
    _check_windows("column", out.col, out.cols, f["kernel_w"], f["stride_w"], f["pad_w"], f["in_cols"])
    largest = _reduce(window.padded(slice(None), -128, np.int8), np.maximum, f, out)
    if f["multiplier"]:
        return requantise_int8(largest, f["in_zp"], _stage(f))
    return np.clip(largest, f["act_min"], f["act_max"])


def _check_windows(axis: str, first: int, count: int, kernel: int, stride: int, pad: int, size: int) -> None:
    """A maximum over padding alone has no value."""
    if first * stride - pad + kernel <= 0 or (first + count - 1) * stride - pad >= size:
        raise ProgramFault(f"a maximum covers no {axis} of the map: kernel {kernel}, stride {stride}, padding {pad}")


def _sum(window: Window, f: Mapping[str, int], out: Extent) -> NDArray[np.int8]:
    stage = _stage(f)
    bound = f["kernel_h"] * f["kernel_w"] * 255
    result = np.empty((window.runs, out.rows, out.cols, out.channels), np.int8)
    for block in blocks(window.runs, window.rows * window.cols * window.channels):
        x = window.padded(block, 0, np.int32, f["in_zp"])
        result[block] = stage.apply(_reduce(x, np.add, f, out), bound)
    return result


def _reduce(x: NDArray, combine: np.ufunc, f: Mapping[str, int], out: Extent) -> NDArray:
    """Combines the elements of every window, rows first and then columns."""
    for axis, kernel, stride, count in (
        (1, f["kernel_h"], f["stride_h"], out.rows),
        (2, f["kernel_w"], f["stride_w"], out.cols),
    ):
        if count == 1:
            x = combine.reduce(x, axis=axis, keepdims=True, dtype=x.dtype)
            continue
        taps = [(slice(None),) * axis + (slice(k, k + (count - 1) * stride + 1, stride),) for k in range(kernel)]
        total = x[taps[0]].copy()
        for tap in taps[1:]:
            combine(total, x[tap], out=total)
        x = total
    return x
