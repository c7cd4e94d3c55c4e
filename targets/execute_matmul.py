"""MATMUL for all runs at once: products of two activations, group by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ProgramFault
from .elements import LIMITS, load_elements, store_elements
from .execute_conv import blocks
from .isa import DType
from .memory import Box, Memory
from .numerics import INT48_MAX, STAGE_FIELDS, Stage, check_accumulators
from .numerics_float import FloatStage, ordered_product
from .resolve import clipped

_INT32_MAX = 2**31 - 1
_FLOAT32_EXACT = 2**24


def execute_matmul(sram: Memory, f: Mapping[str, int]) -> int:
    """Runs one instruction; returns its multiply-accumulates per run."""
    groups = (clipped(f["g0_start"], f["g0_count"], f["g0_limit"]), f["g1_count"])
    m, n, k = f["m_count"], f["n_count"], f["k_count"]
    outputs = groups[0] * groups[1] * m * n
    if outputs == 0:
        return 0
    sram.budget.check_work(outputs * k)
    sram.budget.check_window(groups[0] * groups[1], max(m, n), k)
    a, b = _operand("in", "m", f, (*groups, m, k)), _operand("b", "n", f, (*groups, n, k))
    bias = _bias_box(f, (*groups, m, n)) if f["bias_addr"] >= 0 else None
    target = _operand("out", "m", f, (*groups, m, n))
    _check(sram, target, [a, b] if bias is None else [a, b, bias])
    added = None if bias is None else load_elements(sram.read(bias), _bias_type(f))
    left, right = _read(sram, a, f, "in"), _read(sram, b, f, "b")
    result = _multiply(left, right, added, f)
    sram.write(target, store_elements(result, DType(f["out_type"])).reshape(len(result), *target.counts))
    return outputs * k


def _bias_type(f: Mapping[str, int]) -> DType:
    return DType.FP32 if f["in_type"] == DType.BF16 else DType.INT32


def _operand(prefix: str, row: str, f: Mapping[str, int], counts: tuple[int, ...]) -> Box:
    """The bytes of an operand; only `b` may have gaps between the elements of a row."""
    size = DType(f[f"{prefix}_type"]).bytes
    pitches = tuple(f[f"{prefix}_pitch_{axis}"] for axis in ("g0", "g1", row))
    if prefix != "b":
        return Box(f[f"{prefix}_addr"], (*counts[:3], counts[3] * size), (*pitches, 1))
    return Box(f["b_addr"], (*counts, size), (*pitches, f["b_pitch_k"], 1))


def _bias_box(f: Mapping[str, int], counts: tuple[int, ...]) -> Box:
    pitches = tuple(f[f"bias_pitch_{axis}"] for axis in ("g0", "g1", "m"))
    return Box(f["bias_addr"], (*counts[:3], counts[3] * 4), (*pitches, 1))


def _check(sram: Memory, target: Box, sources: list[Box]) -> None:
    for box in (target, *sources):
        sram.check(box)
    if not target.has_distinct_bytes():
        raise ProgramFault(f"output pitches {target.strides[:3]} put two elements into one byte")
    if any(target.overlaps(box) for box in sources):
        raise ProgramFault(f"the output from SRAM byte {target.low} on overlaps an operand")


def _read(sram: Memory, box: Box, f: Mapping[str, int], prefix: str) -> NDArray[Any]:
    """Values less their zero point, (1 or runs, g0, g1, rows, k), as integers or float32.

    Bytes that a pitch of 0 addresses several times are read once and then repeated.
    """
    counts = tuple(1 if stride == 0 else count for count, stride in zip(box.counts, box.strides, strict=True))
    kind = DType(f[f"{prefix}_type"])
    raw = sram.read(Box(box.address, counts, box.strides))
    full = np.broadcast_to(raw, (len(raw), *box.counts))
    values = load_elements(full, kind)
    values = values[..., 0] if prefix == "b" else values
    return values if kind is DType.BF16 else values.astype(np.int32) - f[f"{prefix}_zp"]


def _multiply(a: NDArray[Any], b: NDArray[Any], bias: NDArray[Any] | None, f: Mapping[str, int]) -> NDArray[Any]:
    """The outputs, (1 or runs, g0, g1, m, n)."""
    runs = max(len(a), len(b), 1 if bias is None else len(bias))
    first = _block(a, b, bias, f, slice(0, 1))
    result = np.empty((runs, *first.shape[1:]), first.dtype)
    result[:1] = first
    for block in blocks(runs - 1, max(1, a[0].size + b[0].size)) if runs > 1 else ():
        shifted = slice(block.start + 1, block.stop + 1)
        result[shifted] = _block(a, b, bias, f, shifted)
    return result


def _block(
    a: NDArray[Any], b: NDArray[Any], bias: NDArray[Any] | None, f: Mapping[str, int], runs: slice
) -> NDArray[Any]:
    left, right = _of_runs(a, runs), _of_runs(b, runs)
    added = None if bias is None else _of_runs(bias, runs)
    if f["in_type"] == DType.BF16:
        return _float_product(left, right, added, f)
    sums, bound = _integer_product(left, right, f)
    return _integer_stage(sums, bound, added, f)


def _of_runs(values: NDArray[Any], block: slice) -> NDArray[Any]:
    return values[block] if len(values) > 1 else values


def _integer_product(a: NDArray[Any], b: NDArray[Any], f: Mapping[str, int]) -> tuple[NDArray[Any], int]:
    """Exact sums as floats, and a bound of their magnitude."""
    bound = f["k_count"] * _largest("in", f) * _largest("b", f)
    kind = np.float32 if bound < _FLOAT32_EXACT else np.float64
    return a.astype(kind) @ b.astype(kind).swapaxes(-1, -2), bound


def _largest(prefix: str, f: Mapping[str, int]) -> int:
    low, high = LIMITS[DType(f[f"{prefix}_type"])]
    return max(high - f[f"{prefix}_zp"], f[f"{prefix}_zp"] - low)


def _integer_stage(sums: NDArray[Any], bound: int, bias: NDArray[Any] | None, f: Mapping[str, int]) -> NDArray[Any]:
    if bias is not None:
        sums, bound = sums.astype(np.float64) + bias, bound + 2**31
    if f["out_type"] == DType.INT32:
        whole = sums.astype(np.int64)
        check_accumulators(whole, _INT32_MAX)
        return np.clip(whole, f["act_min"], f["act_max"]).astype(np.int32)
    largest = INT48_MAX if f["in_type"] == DType.INT16 else _INT32_MAX
    stage = Stage.of(f["multiplier"], f["shift"], *(f[name] for name in STAGE_FIELDS), accumulator_max=largest)
    return stage.apply(sums, bound)


def _float_product(
    a: NDArray[Any], b: NDArray[Any], bias: NDArray[Any] | None, f: Mapping[str, int]
) -> NDArray[np.float32]:
    """Group by group, k in ascending order."""
    runs = max(len(a), len(b), 1 if bias is None else len(bias))
    a, b = (np.broadcast_to(x, (runs, *x.shape[1:])) for x in (a, b))
    sums = np.empty((*a.shape[:4], b.shape[3]), np.float32)
    for index in np.ndindex(a.shape[:3]):
        sums[index] = ordered_product(a[index], b[index].T)
    if bias is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            sums += bias
    return FloatStage.of(f).apply(sums)
