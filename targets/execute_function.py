"""TABLE, MUL, SOFTMAX, SOFTMAX_LOG, NORM, REDUCE and RESIZE, for all runs at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..common.errors import ProgramFault
from .elements import LIMITS, bits_float
from .execute_conv import blocks
from .functions import SOFTMAX_BITS, Axis, bilinear, interpolated, log2_fixed, normalise, powers, shares
from .functions_float import normalise_float, ordered_sum, softmax_float
from .isa import DType, NormMode, Opcode, PoolMode, ResizeMode, SoftmaxMode
from .memory import Box, Memory
from .numerics import INT48_MAX, STAGE_FIELDS, Stage, check_scales, requantise_elements, rescale
from .numerics_float import FloatStage
from .ranges import MAX_GROUP
from .table_float import TABLE_WORDS, FloatTable
from .validate import INT32_MAX
from .views import Extent, View, check_target, output_extent, read_extent, write_extent

TABLE_ENTRIES = 256
TABLE_POINTS = 513  # of an INT16 table: the ends of 512 pieces
NORM_RECORD_BYTES = 12
_OUTPUT_BITS = 8  # fraction bits of a normalised element when its bias is added
_LEAST_INT8 = -128
_TABLE_TYPES: dict[DType, str] = {DType.INT8: "i1", DType.INT16: "<i2"}

Result = NDArray[Any]
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
    sram.budget.check_window(source.rows, source.cols, source.channels)
    x = read_extent(sram, View.of("in", f), source)
    check_target(sram, target, out)
    if opcode not in (Opcode.TABLE, Opcode.MUL) or target.dtype.bytes != DType(f["in_type"]).bytes:
        _check_apart(target, out, View.of("in", f), source)
    if opcode is Opcode.MUL and target.dtype.bytes != DType(f["b_type"]).bytes:
        _check_apart(target, out, View.of("b", f), out)
    write_extent(sram, target, out, _FUNCTIONS[opcode](sram, f, out, x))
    return work


def _source(opcode: Opcode, f: Fields, out: Extent) -> Extent:
    """The part of the input that the output extent needs; `ProgramFault` where the map has no such part."""
    source = out
    if opcode is Opcode.REDUCE:
        source = replace(out, chan=out.chan * f["channels_in"], channels=out.channels * f["channels_in"])
    if opcode is Opcode.RESIZE:
        (row, rows), (col, cols) = (_span(axis) for axis in _axes(f, out))
        source = replace(out, row=row, rows=rows, col=col, cols=cols)
    if source.row + source.rows > f["in_rows"] or source.col + source.cols > f["in_cols"]:
        raise ProgramFault(
            f"rows up to {source.row + source.rows} and columns up to {source.col + source.cols} are read of a map of "
            f"{f['in_rows']} × {f['in_cols']}"
        )
    return source


def _check_apart(target: View, out: Extent, view: View, source: Extent) -> None:
    """Elements that are read several times, or have another size than those written, may not be overwritten."""
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


def _stage(f: Fields) -> Stage | FloatStage:
    return FloatStage.of(f) if f["out_type"] == DType.BF16 else _integer_stage(f)


def _integer_stage(f: Fields, *, wide: bool = False) -> Stage:
    """`wide`: accumulators of INT16 have 48 bits."""
    largest = INT48_MAX if wide and f["in_type"] == DType.INT16 else INT32_MAX
    fields = (f[name] for name in STAGE_FIELDS)
    return Stage.of(f["multiplier"], f["shift"], *fields, accumulator_max=largest)


def _table(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    address = f["table_addr"]
    match DType(f["in_type"]):
        case DType.BF16:
            table = FloatTable.of(_constants(sram, address, TABLE_WORDS, "<u2"))
            return FloatStage.of(f).apply(table(x))
        case DType.INT16:
            points = _constants(sram, address, TABLE_POINTS, "<i2").astype(np.int64)
            return np.clip(interpolated(points, x), f["act_min"], f["act_max"])
        case _:
            table = _constants(sram, address, TABLE_ENTRIES, _TABLE_TYPES[DType(f["out_type"])])
            return np.clip(table, f["act_min"], f["act_max"])[x.astype(np.int16) - _LEAST_INT8]


def _mul(sram: Memory, f: Fields, out: Extent, a: Result) -> Result:
    b = read_extent(sram, View.of("b", f), out)
    stage = _stage(f)
    if f["out_type"] == DType.BF16:
        with np.errstate(over="ignore", invalid="ignore"):
            return stage.apply(a * b, 0)
    runs = max(len(a), len(b))
    result = np.empty((runs, out.rows, out.cols, out.channels), stage.storage)
    for block in blocks(runs, 2 * out.elements):
        left, right = (
            (v[block] if len(v) > 1 else v).astype(np.int32) - zero for v, zero in ((a, f["in_zp"]), (b, f["b_zp"]))
        )
        result[block] = stage.apply(left * right, _reach("in", f) * _reach("b", f))
    return result


def _reach(prefix: str, f: Fields) -> int:
    """The largest magnitude of an element less its zero point."""
    low, high = LIMITS[DType(f[f"{prefix}_type"])]
    return max(f[f"{prefix}_zp"] - low, high - f[f"{prefix}_zp"])


def _softmax(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    _check_group(out.channels)
    masks, stage = f["mode"] == SoftmaxMode.MASKED, _stage(f)
    if f["out_type"] == DType.BF16:
        return stage.apply(softmax_float(x, masked=masks), 0)
    tables = _constants(sram, f["table_addr"], 2 * TABLE_ENTRIES, "<i2").astype(np.int64)
    coarse, fine = tables[:TABLE_ENTRIES], tables[TABLE_ENTRIES:]
    if tables.min() < 0:
        raise ProgramFault("the tables of a SOFTMAX hold a negative power")
    least = LIMITS[DType(f["in_type"])][0]
    result = np.empty(x.shape, stage.storage)
    logs = np.empty((*x.shape[:3], 1), np.int16) if "log_addr" in f else None
    for block in blocks(len(x), 4 * out.elements):
        logits = x[block].astype(np.int64)
        masked = logits == least if masks else np.zeros(logits.shape, np.bool_)
        found = powers(logits, masked, coarse, fine)
        total = found.sum(axis=-1, keepdims=True)
        result[block] = stage.apply(shares(found, total), 1 << SOFTMAX_BITS)
        if logs is not None:
            largest = np.where(masked, least, logits).max(axis=-1, keepdims=True)
            logs[block] = _logarithms(f, largest, total, least)
    if logs is not None:
        _write_logs(sram, f, out, logs)
    return result


def _logarithms(f: Fields, largest: Result, total: Result, least: int) -> Result:
    """Logarithms of sums of exponentials in units of the logits; the least value where the sum is 0."""
    bits = log2_fixed(np.maximum(total, 1)) - (SOFTMAX_BITS << SOFTMAX_BITS)
    found = largest + rescale(bits, f["log_multiplier"], f["log_shift"])
    return np.where(total > 0, np.clip(found, least + 1, -least - 1), least)


def _write_logs(sram: Memory, f: Fields, out: Extent, logs: Result) -> None:
    """One logarithm for each row and column, apart from the logits and the shares."""
    view = View(f["log_addr"], f["log_pitch_h"], f["log_pitch_w"], out.row, 0, 0, DType.INT16)
    extent = replace(out, chan=0, channels=1)
    check_target(sram, view, extent)
    _check_apart(view, extent, View.of("in", f), out)
    _check_apart(view, extent, View.of("out", f), out)
    write_extent(sram, view, extent, logs)


def _norm(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    group = f["group"]
    over_map = f["mode"] == NormMode.MAP
    _check_group(group * (out.rows * out.cols if over_map else 1))
    if out.chan % group or out.channels % group:
        raise ProgramFault(f"channels {out.chan}..{out.chan + out.channels - 1} are not whole groups of {group}")
    result = np.empty(x.shape, x.dtype if f["out_type"] == f["in_type"] else _TABLE_TYPES[DType(f["out_type"])])
    part = _norm_float if f["out_type"] == DType.BF16 else _norm_integer
    records = _records(sram, f, out)
    for block in blocks(len(x), 4 * out.elements):
        found = _grouped(x[block], group, over_map=over_map)
        result[block] = part(f, found, records, x[block].shape, over_map=over_map)
    return result


def _grouped(x: Result, group: int, *, over_map: bool) -> Result:
    """Elements that share their statistics along the last axis: (runs, [rows, columns,] groups, elements)."""
    split = x.reshape(*x.shape[:3], -1, group)
    if not over_map:
        return split
    return split.transpose(0, 3, 1, 2, 4).reshape(len(x), split.shape[3], -1)


def _ungrouped(y: Result, shape: tuple[int, ...], group: int, *, over_map: bool) -> Result:
    """The inverse of `_grouped`."""
    if not over_map:
        return y.reshape(shape)
    runs, rows, cols, channels = shape
    return y.reshape(runs, channels // group, rows, cols, group).transpose(0, 2, 3, 1, 4).reshape(shape)


def _norm_integer(
    f: Fields, x: Result, records: NDArray[np.int32], shape: tuple[int, ...], *, over_map: bool
) -> Result:
    bias, multiplier, shift = records.astype(np.int64).T
    epsilon = (f["eps_high"] << 31) + f["eps_low"]
    y = _ungrouped(normalise(x.astype(np.int64), epsilon), shape, f["group"], over_map=over_map)
    scaled = (rescale(y, multiplier, shift) + bias + (1 << (_OUTPUT_BITS - 1))) >> _OUTPUT_BITS
    return np.clip(scaled + f["out_zp"], f["act_min"], f["act_max"])


def _norm_float(f: Fields, x: Result, records: NDArray[np.int32], shape: tuple[int, ...], *, over_map: bool) -> Result:
    beta, gamma, _ = np.ascontiguousarray(records).view(np.float32).T
    y = _ungrouped(normalise_float(x, np.float32(bits_float(f["eps_low"]))), shape, f["group"], over_map=over_map)
    with np.errstate(over="ignore", invalid="ignore"):
        return FloatStage.of(f).apply(y * gamma + beta)


def _records(sram: Memory, f: Fields, out: Extent) -> NDArray[np.int32]:
    """The three words of every covered channel, (channels, 3)."""
    if out.chan < f["params_chan0"]:
        raise ProgramFault(f"channel {out.chan} lies before the first record, {f['params_chan0']}")
    address = f["params_addr"] + (out.chan - f["params_chan0"]) * NORM_RECORD_BYTES
    found = _constants(sram, address, 3 * out.channels, "<i4").reshape(-1, 3)
    if f["out_type"] != DType.BF16:
        _, multiplier, shift = found.astype(np.int64).T
        check_scales(np.maximum(np.abs(multiplier), 1), shift, out.chan)
    return found


def _check_group(count: int) -> None:
    if count > MAX_GROUP:
        raise ProgramFault(f"{count} elements are more than the {MAX_GROUP} that a softmax or normalisation goes over")


def _reduce(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    grouped = x.reshape(*x.shape[:3], out.channels, f["channels_in"])
    if f["mode"] == PoolMode.MAX:
        return _kept(f, grouped.max(axis=-1))
    if f["out_type"] == DType.BF16:
        with np.errstate(over="ignore", invalid="ignore"):
            return FloatStage.of(f).apply(ordered_sum(grouped)[..., 0] * np.float32(bits_float(f["multiplier"])))
    total = grouped.sum(axis=-1, dtype=np.int64) - f["channels_in"] * f["in_zp"]
    return _integer_stage(f).apply(total, f["channels_in"] * _reach("in", f))


def _resize(sram: Memory, f: Fields, out: Extent, x: Result) -> Result:
    rows, cols = (axis.shifted(_span(axis)[0]) for axis in _axes(f, out))
    if f["mode"] == ResizeMode.NEAREST:
        return _kept(f, x[:, rows.nearest][:, :, cols.nearest])
    if f["out_type"] == DType.BF16:
        with np.errstate(over="ignore", invalid="ignore"):
            return FloatStage.of(f).apply(bilinear(x, rows, cols) * np.float32(bits_float(f["multiplier"])))
    stage, bound = _integer_stage(f, wide=True), _reach("in", f) * rows.whole * cols.whole
    result = np.empty((len(x), out.rows, out.cols, out.channels), stage.storage)
    for block in blocks(len(x), 4 * out.elements):
        result[block] = stage.apply(bilinear(x[block].astype(np.int64) - f["in_zp"], rows, cols), bound)
    return result


def _kept(f: Fields, values: Result) -> Result:
    """Elements as they are, save for the clamp, or rescaled where there is a multiplier."""
    if f["out_type"] == DType.BF16:
        return FloatStage.of(f).apply(values)
    if f["multiplier"]:
        return requantise_elements(values, f["in_zp"], _integer_stage(f))
    return np.clip(values, f["act_min"], f["act_max"])


def _axes(f: Fields, out: Extent) -> tuple[Axis, Axis]:
    if not (f["in_rows"] and f["in_cols"]):
        raise ProgramFault(f"a RESIZE of an empty map, {f['in_rows']} × {f['in_cols']}")
    vertical, horizontal = ((f[f"scale_{a}_n"], f[f"scale_{a}_d"], f[f"offset_{a}"]) for a in "hw")
    return Axis.of(out.row, out.rows, vertical, f["in_rows"]), Axis.of(out.col, out.cols, horizontal, f["in_cols"])


def _span(axis: Axis) -> tuple[int, int]:
    """First index and number of indices that the outputs read."""
    return int(axis.low[0]), int(axis.high[-1]) - int(axis.low[0]) + 1


_FUNCTIONS: dict[Opcode, Callable[[Memory, Fields, Extent, Result], Result]] = {
    Opcode.TABLE: _table,
    Opcode.MUL: _mul,
    Opcode.SOFTMAX: _softmax,
    Opcode.NORM: _norm,
    Opcode.REDUCE: _reduce,
    Opcode.SOFTMAX_LOG: _softmax,
    Opcode.RESIZE: _resize,
}
_READS: dict[Opcode, Callable[[Fields], int]] = {
    Opcode.MUL: lambda _: 2,
    Opcode.REDUCE: lambda f: f["channels_in"],
    Opcode.RESIZE: lambda f: 4 if f["mode"] == ResizeMode.BILINEAR else 1,
}
