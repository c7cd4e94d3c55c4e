"""What an executed operator has to do, in numbers: class, multiply-accumulates, elements, runs, extents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod

import numpy as np
from numpy.typing import NDArray

from .executed import ExecutedOperator, Value

LANES = 16  # of 32 bits in the widest vectors of today's processors
JOINED = "lanefit_joined"
"""Attribute of operators that run in the pass of one before them (`passes`)."""
AHEAD = 24  # products that a processor works on beyond the sum that waits: some 250 instructions in flight
VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
_BROADCAST = ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where")
TILE = (4, 6)  # vectors of outputs × positions that a register tile of matrix kernels holds at most
EXTENTS = ("inputs", "outputs", "positions", "width", "depth", "kernel", "stride", "batch", "work")


@dataclass(frozen=True, slots=True)
class Work:
    """`family` is "conv", "product" or "other"; within it, `kind` groups operators that share one law.

    `macs` are those that read data, not padding. Of them, `edge_macs` belong to positions whose window reaches into
    padding. `narrow` and `ragged` count multiply-accumulates that a register tile does for nothing because the
    channels or the positions do not fill it. `runs` are the pieces in which `elements` lie together: rows of a softmax,
    blocks that a transposition moves, matrices of a batch. `serial` are multiply-accumulates that wait for the one
    before them: plain loops sum one result after the other, and a processor looks only so far ahead. `extents` (see
    `EXTENTS`) are logarithms to base 2.
    """

    family: str
    kind: str
    macs: int
    elements: int
    extents: tuple[float, ...]
    edge_macs: float = 0.0
    narrow: float = 0.0
    ragged: float = 0.0
    runs: float = 1.0
    serial: float = 0.0


def work_of(operator: ExecutedOperator) -> Work:
    """Any operator has work: one without a rule of its own is described by the elements that it reads and writes."""
    name = operator.kind.rsplit(".", 1)[-1]
    if "Conv" in name and len(_weights(operator)) >= 3:
        return _convolution(operator)
    if "MatMul" in name or "Gemm" in name:
        return _product(operator)
    return _elementwise(operator)


def _convolution(operator: ExecutedOperator) -> Work:
    data, weights, out = operator.inputs[0], _weights(operator), operator.outputs[0]
    assert data is not None
    group = (operator.integers("group") or (1,))[0]
    taps = prod(weights[2:])
    macs = round(out.elements * weights[1] * taps * _inside(operator, data.shape[2:], out.shape[2:], weights[2:]))
    shape = (
        "depthwise"
        if weights[1] == 1 and group > 1
        else "grouped"
        if group > 1
        else "pointwise"
        if taps == 1
        else "window"
    )
    channels = data.shape[1]
    if shape == "window" and channels < 8:
        shape = "image"  # few channels take another path through the blocked layouts
    strides = operator.integers("strides") or (1,)
    residual = len(operator.inputs) > 3 and operator.inputs[3] is not None
    extents = _logs(
        channels, out.shape[1], prod(out.shape[2:]), out.shape[-1], weights[1], taps, prod(strides), out.shape[0], macs
    )
    narrow = 0.0 if shape == "depthwise" else macs * _idle(out.shape[1], LANES * TILE[0])
    edge = macs * _edge(operator, data.shape[-1], out.shape[-1], weights[-1])
    kind = _kind(operator, shape, "sum" if residual else "")
    ragged, serial = macs * _idle(out.shape[-1], TILE[1]), _serial(operator, out.elements, weights[1] * taps)
    return Work("conv", kind, macs, data.elements + out.elements, extents, edge, narrow, ragged, serial=serial)


def _serial(operator: ExecutedOperator, outputs: int, chain: int) -> float:
    """Of plain convolutions, whose loops multiply padding too; kernels for blocked layouts keep many sums in registers.
    A sum of `chain` products waits for itself, but for about `AHEAD` of them: the next sums have begun meanwhile."""
    return float(outputs * max(0, chain - AHEAD)) if operator.kind == "Conv" else 0.0


def _shape(group: int, fan_in: int, taps: int, channels: int) -> str:
    if group > 1:
        return "depthwise" if fan_in == 1 else "grouped"
    if taps == 1:
        return "pointwise"
    return "window" if channels >= 8 else "image"  # few channels take another path through the blocked layouts


def _product(operator: ExecutedOperator) -> Work:
    first, out = operator.inputs[0], operator.outputs[0]
    assert first is not None
    transposed = operator.attribute("transA", "0") != "0"
    depth = _extent(first.shape, -2 if transposed else -1)
    rows, columns = _extent(out.shape, -2), _extent(out.shape, -1)
    batch, macs = prod(out.shape[:-2]), out.elements * depth
    second = operator.inputs[1]
    weighted = "weights" if second is not None and second.constant else "data"
    if weighted == "weights":  # one matrix serves the whole batch
        rows, batch = rows * batch, 1
    shape = "vector" if rows == 1 else "matrix"
    extents = _logs(depth, columns, rows, columns, depth, 1, 1, batch, macs)
    kind, elements = _kind(operator, shape, weighted), first.elements + out.elements
    narrow, ragged = macs * _idle(columns, LANES), macs * _idle(rows, TILE[1])
    return Work("product", kind, macs, elements, extents, 0.0, narrow, ragged, float(batch))


def _extent(shape: Sequence[int], axis: int) -> int:
    """The extent of `axis`, counted from the end; 1 where the tensor has no such axis."""
    return shape[axis] if len(shape) >= -axis else 1


def _elementwise(operator: ExecutedOperator) -> Work:
    data = [value for value in operator.inputs if value is not None and not value.constant]
    shape = (operator.outputs[0].shape if operator.outputs else ()) or (1,)
    source: tuple[int, ...] = (data[0].shape if data else ()) or (1,)
    read, written = sum(v.elements for v in data), sum(v.elements for v in operator.outputs)
    moved = 0 if is_view(operator) else read + written
    taps, steps = (prod(operator.integers(name) or (1,)) for name in ("kernel_shape", "strides"))
    windowed = taps > 1 and len(source) > 2
    share = _inside(operator, source[2:], shape[2:], operator.integers("kernel_shape")) if windowed else 0.0
    macs, runs = round(written * taps * share), _runs(operator, source, shape) if moved else 0.0
    channels, area = (source[1] if len(source) > 1 else 1), prod(shape[2:])
    extents = _logs(channels, written, area, _extent(shape, -1), _extent(source, -1), taps, steps, runs, read + written)
    return Work("other", _kind(operator, _layout(operator, data)), macs, moved, extents, runs=runs)


def is_view(operator: ExecutedOperator) -> bool:
    """Whether the runtime only gives the tensor another shape, where it may reuse its memory."""
    return operator.kind in VIEWS


def _runs(operator: ExecutedOperator, source: Sequence[int], shape: Sequence[int]) -> float:
    elements = prod(source)
    if permutation := operator.integers("perm"):
        kept = 1
        for place in reversed(range(len(permutation))):
            if permutation[place] != place:
                break
            kept *= source[place]
        return elements / kept
    if "Reduce" in operator.kind:
        return float(prod(shape))
    if operator.kind in ("Split", "Concat"):
        axis = int(operator.attribute("axis", "0")) % len(shape)
        return float(prod(shape[:axis]) * max(len(operator.inputs), len(operator.outputs)))
    if span := _common_span(operator):
        return prod(shape) / span
    return prod(shape) / _extent(shape, -1)


def _common_span(operator: ExecutedOperator) -> int:
    """Elements that a broadcast treats alike in one go; 0 where nothing is broadcast."""
    shapes = [value.shape for value in operator.inputs[:2] if value is not None]
    if len(shapes) < 2 or shapes[0] == shapes[1] or operator.kind not in _BROADCAST:
        return 0
    big, small = sorted(shapes, key=prod, reverse=True)
    small = (1,) * (len(big) - len(small)) + tuple(small)
    span, alike = 1, None
    for extent, other in zip(reversed(big), reversed(small), strict=True):
        if extent > 1 and alike not in (None, other == extent):
            break
        alike = other == extent if extent > 1 else alike
        span *= extent
    return span


def _layout(operator: ExecutedOperator, data: Sequence[Value]) -> str:
    """What else decides the path of a data movement or of a broadcast."""
    if permutation := operator.integers("perm"):
        return "fixed-last" if permutation[-1] == len(permutation) - 1 else "moved-last"
    if len(operator.inputs) > 1 and len({v.shape for v in operator.inputs if v is not None}) > 1:
        return "broadcast"
    return ""


def _kind(operator: ExecutedOperator, *parts: str) -> str:
    dtype = next((v.dtype for v in operator.inputs if v is not None), "float32")
    joined = "joined" if operator.attribute(JOINED) else ""
    marks = [part for part in (*parts, operator.attribute("activation"), joined) if part]
    return " ".join([operator.kind, *marks, *([dtype] if dtype != "float32" else [])])


def _weights(operator: ExecutedOperator) -> tuple[int, ...]:
    constants = [v for v in operator.inputs[1:] if v is not None and len(v.shape) >= 3]
    return constants[0].shape if constants else ()


def _inside(operator: ExecutedOperator, size: Sequence[int], made: Sequence[int], window: Sequence[int]) -> float:
    """Share of a window's taps that read data and not padding, over all positions; 0..1."""
    rank, share = len(window), 1.0
    steps = operator.integers("strides") or (1,) * rank
    gaps = operator.integers("dilations") or (1,) * rank
    pads = operator.integers("pads") or (0,) * rank
    for extent, count, taps, step, gap, pad in zip(size, made, window, steps, gaps, pads, strict=False):
        starts = np.arange(count)[:, None] * step - pad + np.arange(taps) * gap
        share *= float(((starts >= 0) & (starts < extent)).mean())
    return share


def _edge(operator: ExecutedOperator, size: int, made: int, taps: int) -> float:
    """Share of the columns of positions whose window reaches into padding, 0..1."""
    steps, gaps, pads = (operator.integers(name) for name in ("strides", "dilations", "pads"))
    first = np.arange(made) * (steps[-1] if steps else 1) - (pads[len(pads) // 2 - 1] if pads else 0)
    last = first + (taps - 1) * (gaps[-1] if gaps else 1)
    return float(((first < 0) | (last >= size)).mean())


def _idle(extent: int, tile: int) -> float:
    """Idle share of a tile's steps, relative to the useful ones: 0 where `extent` is a multiple of `tile`."""
    return -(-extent // tile) * tile / extent - 1


def _logs(*values: float) -> tuple[float, ...]:
    return tuple(log2(max(value, 1)) for value in values)


def matrix(works: Sequence[Work]) -> NDArray[np.float64]:
    """(operators, extents)."""
    return np.array([work.extents for work in works], np.float64).reshape(len(works), len(EXTENTS))
