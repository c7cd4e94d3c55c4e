"""The vector unit: ADD, POOL and REQUANTISE here, the others in `execute_function.py`; for all runs at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..common.errors import ProgramFault
from .elements import INTEGERS, LIMITS, bits_float
from .execute_conv import add, blocks
from .execute_function import execute_function
from .isa import DType, Opcode, PoolMode
from .memory import Memory
from .numerics import STAGE_FIELDS, Stage, requantise_elements
from .numerics_float import FloatStage, to_float, to_integer
from .views import Extent, View, Window, check_target, output_extent, read_window, write_extent

_INT32 = 2**31
_STORAGE: dict[DType, DTypeLike] = {DType.INT8: np.int8, DType.INT16: np.int16, DType.BF16: np.float32}


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
    check_target(sram, target, out, window if opcode is Opcode.POOL or _changes_size(f) else None)
    if opcode is Opcode.POOL:
        result = _maximum(window, f, out) if f["mode"] == PoolMode.MAX else _sum(window, f, out)
    elif opcode is Opcode.ADD:
        _check_second(sram, f, out)
        result = add(_values(window, f), f["in_zp"], sram, f, out)
    else:
        result = _convert(_values(window, f), f)
    write_extent(sram, target, out, result)
    return work


def _changes_size(f: Mapping[str, int]) -> bool:
    return DType(f["in_type"]).bytes != DType(f["out_type"]).bytes


def _check_second(sram: Memory, f: Mapping[str, int], out: Extent) -> None:
    """An output may replace the second operand only element by element."""
    target, second = View.of("out", f), View.of("b", f)
    if target.dtype.bytes == second.dtype.bytes:
        return
    for segment in target.segments(out):
        if any(segment.box.overlaps(other.box) for other in second.segments(out)):
            raise ProgramFault(f"the output from SRAM byte {segment.box.low} on overlaps the second operand")


def _values(window: Window, f: Mapping[str, int]) -> NDArray[Any]:
    return window.padded(slice(None), f["in_zp"], _STORAGE[DType(f["in_type"])])


def _stage(f: Mapping[str, int]) -> Stage:
    return Stage.of(f["multiplier"], f["shift"], *(f[name] for name in STAGE_FIELDS))


def _convert(values: NDArray[Any], f: Mapping[str, int]) -> NDArray[Any]:
    """REQUANTISE, within integers, within floats and between them."""
    source, target = f["in_type"] in INTEGERS, f["out_type"] in INTEGERS
    if source and target:
        return requantise_elements(values, f["in_zp"], _stage(f))
    if source:
        return FloatStage.of(f).apply(to_float(values, f["in_zp"], bits_float(f["multiplier"])))
    return to_integer(values, bits_float(f["multiplier"]), f) if target else FloatStage.of(f).apply(values)


def _maximum(window: Window, f: Mapping[str, int], out: Extent) -> NDArray[Any]:
    _check_windows("row", out.row, out.rows, f["kernel_h"], f["stride_h"], f["pad_h"], f["in_rows"])
    _check_windows("column", out.col, out.cols, f["kernel_w"], f["stride_w"], f["pad_w"], f["in_cols"])
    kind = DType(f["in_type"])
    smallest = LIMITS[kind][0] if kind in LIMITS else -np.inf
    largest = _reduce(window.padded(slice(None), smallest, _STORAGE[kind]), np.maximum, f, out)
    if kind is DType.BF16:
        return FloatStage.of(f).apply(largest)
    if f["multiplier"]:
        return requantise_elements(largest, f["in_zp"], _stage(f))
    return np.clip(largest, f["act_min"], f["act_max"])


def _check_windows(axis: str, first: int, count: int, kernel: int, stride: int, pad: int, size: int) -> None:
    """A maximum over padding alone has no value."""
    if first * stride - pad + kernel <= 0 or (first + count - 1) * stride - pad >= size:
        raise ProgramFault(f"a maximum covers no {axis} of the map: kernel {kernel}, stride {stride}, padding {pad}")


def _sum(window: Window, f: Mapping[str, int], out: Extent) -> NDArray[Any]:
    kind = DType(f["in_type"])
    stage = FloatStage.of(f) if kind is DType.BF16 else _stage(f)
    bound = f["kernel_h"] * f["kernel_w"] * (255 if kind is DType.INT8 else 2**15)
    sums = np.float32 if kind is DType.BF16 else np.int32 if bound < _INT32 else np.int64
    result = np.empty((window.runs, out.rows, out.cols, out.channels), stage.storage)
    for block in blocks(window.runs, window.rows * window.cols * window.channels):
        x = window.padded(block, 0, sums, f["in_zp"])
        with np.errstate(over="ignore", invalid="ignore"):  # of floats
            total = _reduce(x, np.add, f, out)
            if kind is DType.BF16:
                total = total * np.float32(bits_float(f["multiplier"]))
        result[block] = stage.apply(total, bound)
    return result


def _reduce(x: NDArray, combine: np.ufunc, f: Mapping[str, int], out: Extent) -> NDArray:
    """Combines the elements of every window, down the columns first and then along the row."""
    for axis, kernel, stride, count in (
        (1, f["kernel_h"], f["stride_h"], out.rows),
        (2, f["kernel_w"], f["stride_w"], out.cols),
    ):
        if count == 1 and x.dtype != np.float32:  # NumPy chooses the order, which floats have to keep
            x = combine.reduce(x, axis=axis, keepdims=True, dtype=x.dtype)
            continue
        taps = [(slice(None),) * axis + (slice(k, k + (count - 1) * stride + 1, stride),) for k in range(kernel)]
        total = x[taps[0]].copy()
        for tap in taps[1:]:
            combine(total, x[tap], out=total)
        x = total
    return x
