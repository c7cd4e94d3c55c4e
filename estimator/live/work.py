"""What an executed operator has to do, in numbers: class, multiply-accumulates, elements, extents, and distant bytes.

Distant bytes say how far away data is when an operator asks for it in a network that runs again and again: data that
was last touched more than a cache's capacity ago has left that cache. Smooth because replacement is not exactly
least-recently-used, and because other data shares the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod

import numpy as np
from numpy.typing import NDArray

from .executed import ExecutedNode, ExecutedOperator, Value

_STEEPNESS = 4.0  # of the passage from "still in the cache" to "gone", as a power of distance / capacity
LANES = 16  # of 32 bits in the widest vectors of today's processors
TILE = (4, 6)  # vectors of outputs × positions that a register tile of matrix kernels holds at most
EXTENTS = ("inputs", "outputs", "positions", "width", "depth", "kernel", "stride", "batch", "work")


@dataclass(frozen=True, slots=True)
class Work:
    """`family` is "conv", "product" or "other"; within it, `kind` groups operators that share one law.

    `macs` are those that read data, not padding. Of them, `edge_macs` belong to positions whose window reaches into
    padding. `narrow` and `ragged` count multiply-accumulates that a register tile does for nothing because the
    channels or the positions do not fill it. `extents` (see `EXTENTS`) are logarithms to base 2.
    """

    family: str
    kind: str
    macs: int
    elements: int
    extents: tuple[float, ...]
    edge_macs: float = 0.0
    narrow: float = 0.0
    ragged: float = 0.0


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
    return Work(
        "conv", kind, macs, data.elements + out.elements, extents, edge, narrow, macs * _idle(out.shape[-1], TILE[1])
    )


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
    return Work("product", kind, macs, elements, extents, 0.0, narrow, ragged)


def _extent(shape: Sequence[int], axis: int) -> int:
    """The extent of `axis`, counted from the end; 1 where the tensor has no such axis."""
    return shape[axis] if len(shape) >= -axis else 1


def _elementwise(operator: ExecutedOperator) -> Work:
    data = [value for value in operator.inputs if value is not None and not value.constant]
    out = operator.outputs[0] if operator.outputs else Value((1,), "float32")
    read, written = sum(v.elements for v in data), sum(v.elements for v in operator.outputs)
    shape = (*out.shape,) if out.shape else (1,)
    taps = prod(operator.integers("kernel_shape") or (1,))
    strides = prod(operator.integers("strides") or (1,))
    source: tuple[int, ...] = (data[0].shape if data else ()) or (1,)
    channels = source[1] if len(source) > 1 else 1
    extents = _logs(
        channels,
        written,
        prod(shape[2:]),
        shape[-1],
        source[-1] if source else 1,
        taps,
        strides,
        len(data) or 1,
        read + written,
    )
    windowed = taps > 1 and len(source) > 2
    share = _inside(operator, source[2:], shape[2:], operator.integers("kernel_shape")) if windowed else 0.0
    macs = round(written * taps * share)
    return Work("other", _kind(operator, _layout(operator, data)), macs, read + written, extents)


def _layout(operator: ExecutedOperator, data: Sequence[Value]) -> str:
    """What else decides the path of a data movement or of a broadcast."""
    if permutation := operator.integers("perm"):
        return "fixed-last" if permutation[-1] == len(permutation) - 1 else "moved-last"
    if len(operator.inputs) > 1 and len({v.shape for v in operator.inputs if v is not None}) > 1:
        return "broadcast"
    return ""


def _kind(operator: ExecutedOperator, *parts: str) -> str:
    dtype = next((v.dtype for v in operator.inputs if v is not None), "float32")
    marks = [part for part in (*parts, operator.attribute("activation")) if part]
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


@dataclass(frozen=True, slots=True)
class Term:
    """An operator in its surroundings; `distant_bytes` come from beyond each cache of the device, per cache."""

    operator: ExecutedOperator
    distant_bytes: tuple[float, ...]


def footprint_bytes(nodes: Sequence[ExecutedNode]) -> float:
    """Bytes that one run touches: constants, and the most activations alive at once, whose memory is reused."""
    last = {name: position for position, node in enumerate(nodes) for name in (*node.inputs, *node.outputs)}
    alive: dict[str, int] = {}
    peak = 0
    for position, node in enumerate(nodes):
        values = zip(
            (*node.inputs, *filter(None, node.outputs)), (*node.operator.inputs, *node.operator.outputs), strict=True
        )
        alive.update({name: v.size_bytes for name, v in values if v is not None and not v.constant})
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last[name] > position}
    return float(peak + sum(node.operator.weight_bytes for node in nodes))


def terms(nodes: Sequence[ExecutedNode], caches: Sequence[int], *, footprint: float | None = None) -> list[Term]:
    """The operators of a model that runs again and again, each with the bytes that it fetches from afar.

    `caches` are capacities in bytes, from the innermost one that counts. Weights return once per run, so the whole
    `footprint` lies between two uses (that of `nodes`, unless they run as part of something larger); an activation
    returns after what was touched since it was written, and what comes from outside was written just before.
    """
    whole = footprint_bytes(nodes) if footprint is None else footprint
    touched, made, found = 0.0, dict[str, float](), []
    for node in nodes:
        distances = [
            (value.size_bytes, whole if value.constant else min(whole, touched - made.get(name, 0.0)))
            for name, value in zip(node.inputs, node.operator.inputs, strict=True)
            if value is not None
        ]
        found.append(Term(node.operator, tuple(sum(s * _gone(d, c) for s, d in distances) for c in caches)))
        touched += node.operator.weight_bytes + node.operator.output_bytes
        made.update({name: touched for name in node.outputs})
    return found


def _gone(distance: float, capacity: float) -> float:
    """Share of data that has left a cache of `capacity` bytes after `distance` other bytes, 0..1."""
    ratio = (distance / capacity) ** _STEEPNESS
    return ratio / (1 + ratio)


def matrix(works: Sequence[Work]) -> NDArray[np.float64]:
    """(operators, extents)."""
    return np.array([work.extents for work in works], np.float64).reshape(len(works), len(EXTENTS))
