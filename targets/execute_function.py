"""TABLE, MUL, SOFTMAX, NORM, REDUCE and RESIZE, for all runs at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..common.errors import ProgramFault
from .execute_conv import blocks
from .functions import Axis, bilinear, normalise, softmax
from .isa import NormMode, Opcode, PoolMode, ResizeMode, SoftmaxMode
from .memory import Box, Memory
from .numerics import Stage, check_scales, requantise_elements, rescale
from .ranges import MAX_GROUP
from .views import Extent, View, check_target, output_extent, read_extent, write_extent

TABLE_ENTRIES = 256
NORM_RECORD_BYTES = 12
_OUTPUT_BITS = 8  # fraction bits of a normalised element when its bias is added
_LEAST_INT8 = -128

Result = NDArray[np.int8]
Fields = Mapping[str, int]


def execute_function(sram: Memory, opcode: Opcode, f: Fields) -> int:
    """Runs one instruction; returns the input elements that it touches per run."""
    out = output_extent(f)
    if out.elements == 0:
        return 0
    work = out.elements * _READS.get(opcode, lambda _: 1)(f)
    sram.budget.check_work(work)
    sram.budget.check_window(out.rows, out.cols, work // (out.rows * out.cols))
    target = View.of("out", f)
    source = _source(opcode, f, out)
    x = read_extent(sram, View.of("in", f), source)
    check_target(sram, target, out)
    if opcode not in (Opcode.TABLE, Opcode.MUL):
        _check_apart(target, out, View.of("in", f), source)
    write_extent(sram, target, out, _FUNCTIONS[opcode](sram, f, out, x))
    return work


def _source(opcode: Opcode, f: Fields, out: Extent) -> Extent:
    """The part of the input that the output extent needs; `ProgramFault` where the map has no such part."""
    source = out
    if opcode is Opcode.REDUCE:
        source = replace(out, chan=out.chan * f["channels_in"], channels=out.channels * f["channels_in"])
    if opcode is Opcode.RESIZE:
        (row, rows), (col, cols) = (_reach(axis) for axis in _axes(f, out))
        source = replace(out, row=row, rows=rows, col=col, cols=cols)
    if source.row + source.rows > f["in_rows"] or source.col + source.cols > f["in_cols"]:
        raise ProgramFault(
            f"rows up to {source.row + source.rows} and columns up to {source.col + source.cols} are read of a map of "
            f"{f['in_rows']} × {f['in_cols']}"
        )
    return source


def _check_apart(target: View, out: Extent, view: View, source: Extent) -> None:
    """Elements are read several times, so that none may be overwritten."""
    for written in target.segments(out):
        if any(written.box.overlaps(read.box) for read in view.segments(source)):
            raise ProgramFault(f"the output from SRAM byte {written.box.low} on overlaps the input")


def _constants(sram: Memory, address: int, count: int, dtype: DTypeLike) -> NDArray:
    """`count` integers in SRAM that all runs share."""
    size = np.dtype(dtype).itemsize
    raw = sram.read(Box(address, (count * size,), (1,)))
    if len(raw) > 1 and (raw != raw[:1]).any():
        raise ProgramFault("the tables and records of an instruction must be constants")
    return np.ascontiguousarray(raw[0]).view(dtype)


def _stage(f: Fields) -> Stage:
    return Stage.of(f["multiplier"], f["shift"], f["out_zp"], f["act_min"], f["act_max"])


def _table(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    table = _constants(sram, f["table_addr"], TABLE_ENTRIES, np.int8)
    clamped = np.clip(table, f["act_min"], f["act_max"]).astype(np.int8)
    return clamped[x.astype(np.int16) - _LEAST_INT8]


def _mul(sram: Memory, f: Fields, out: Extent, a: Result) -> Result:
    b = read_extent(sram, View.of("b", f), out)
    stage = _stage(f)
    runs = max(len(a), len(b))
    result = np.empty((runs, out.rows, out.cols, out.channels), np.int8)
    for block in blocks(runs, 2 * out.elements):
        left, right = (
            (v[block] if len(v) > 1 else v).astype(np.int32) - zero for v, zero in ((a, f["in_zp"]), (b, f["b_zp"]))
        )
        result[block] = stage.apply(left * right, 255 * 255)
    return result


def _softmax(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    _check_group(out.channels)
    tables = _constants(sram, f["table_addr"], 2 * TABLE_ENTRIES, "<i2").astype(np.int64)
    coarse, fine = tables[:TABLE_ENTRIES], tables[TABLE_ENTRIES:]
    if tables.min() < 0:
        raise ProgramFault("the tables of a SOFTMAX hold a negative power")
    stage = _stage(f)
    result = np.empty(x.shape, np.int8)
    for block in blocks(len(x), 4 * out.elements):
        logits = x[block].astype(np.int64)
        masked = logits == _LEAST_INT8 if f["mode"] == SoftmaxMode.MASKED else None
        result[block] = stage.apply(softmax(logits, masked, coarse, fine), 1 << 15)
    return result


def _norm(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    group = f["group"]
    over_map = f["mode"] == NormMode.MAP
    _check_group(group * (out.rows * out.cols if over_map else 1))
    if out.chan % group or out.channels % group:
        raise ProgramFault(f"channels {out.chan}..{out.chan + out.channels - 1} are not whole groups of {group}")
    bias, multiplier, shift = _records(sram, f, out)
    epsilon = (f["eps_high"] << 31) + f["eps_low"]
    axes = (1, 2, 4) if over_map else (4,)
    result = np.empty(x.shape, np.int8)
    for block in blocks(len(x), 4 * out.elements):
        part = x[block].astype(np.int64)
        grouped = part.reshape(*part.shape[:3], -1, group)
        y = normalise(grouped, epsilon, axes).reshape(part.shape)
        scaled = (rescale(y, multiplier, shift) + bias + (1 << (_OUTPUT_BITS - 1))) >> _OUTPUT_BITS
        result[block] = np.clip(scaled + f["out_zp"], f["act_min"], f["act_max"])
    return result


def _records(sram: Memory, f: Fields, out: Extent) -> tuple[NDArray[np.int64], ...]:
    """Bias, multiplier and shift of every covered channel."""
    if out.chan < f["params_chan0"]:
        raise ProgramFault(f"channel {out.chan} lies before the first record, {f['params_chan0']}")
    address = f["params_addr"] + (out.chan - f["params_chan0"]) * NORM_RECORD_BYTES
    found = _constants(sram, address, 3 * out.channels, "<i4").reshape(-1, 3).astype(np.int64)
    bias, multiplier, shift = found.T
    check_scales(np.maximum(np.abs(multiplier), 1), shift, out.chan)
    return bias, multiplier, shift


def _check_group(count: int) -> None:
    if count > MAX_GROUP:
        raise ProgramFault(f"{count} elements are more than the {MAX_GROUP} that a softmax or normalisation goes over")


def _reduce(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    grouped = x.reshape(*x.shape[:3], out.channels, f["channels_in"])
    if f["mode"] == PoolMode.MAX:
        return _kept(f, grouped.max(axis=-1))
    total = grouped.sum(axis=-1, dtype=np.int64) - f["channels_in"] * f["in_zp"]
    return _stage(f).apply(total, f["channels_in"] * 255)


def _resize(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    rows, cols = (axis.shifted(_reach(axis)[0]) for axis in _axes(f, out))
    if f["mode"] == ResizeMode.NEAREST:
        return _kept(f, x[:, rows.nearest][:, :, cols.nearest])
    stage, whole = _stage(f), rows.whole * cols.whole
    result = np.empty((len(x), out.rows, out.cols, out.channels), np.int8)
    for block in blocks(len(x), 4 * out.elements):
        result[block] = stage.apply(bilinear(x[block].astype(np.int64) - f["in_zp"], rows, cols), 255 * whole)
    return result


def _kept(f: Fields, values: Result) -> Result:
    """Elements as they are, save for the clamp, or rescaled where there is a multiplier."""
    if f["multiplier"]:
        return requantise_elements(values, f["in_zp"], _stage(f))
    return np.clip(values, f["act_min"], f["act_max"])


def _axes(f: Fields, out: Extent) -> tuple[Axis, Axis]:
    if not (f["in_rows"] and f["in_cols"]):
        raise ProgramFault(f"a RESIZE of an empty map, {f['in_rows']} × {f['in_cols']}")
    vertical, horizontal = ((f[f"scale_{a}_n"], f[f"scale_{a}_d"], f[f"offset_{a}"]) for a in "hw")
    return Axis.of(out.row, out.rows, vertical, f["in_rows"]), Axis.of(out.col, out.cols, horizontal, f["in_cols"])


def _reach(axis: Axis) -> tuple[int, int]:
    """First index and number of indices that the outputs read."""
    return int(axis.low[0]), int(axis.high[-1]) - int(axis.low[0]) + 1


_FUNCTIONS: dict[Opcode, Callable[[Memory, Fields, Extent, Result], Result]] = {
    Opcode.TABLE: _table,
    Opcode.MUL: _mul,
    Opcode.SOFTMAX: _softmax,
    Opcode.NORM: _norm,
    Opcode.REDUCE: _reduce,
    Opcode.RESIZE: _resize,
}
_READS: dict[Opcode, Callable[[Fields], int]] = {
    Opcode.MUL: lambda _: 2,
    Opcode.REDUCE: lambda f: f["channels_in"],
    Opcode.RESIZE: lambda f: 4 if f["mode"] == ResizeMode.BILINEAR else 1,
}
