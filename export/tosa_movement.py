"""Operators that move elements, and transposed convolution, as TOSA 1.0 operators with the same bits.

| ours | TOSA |
|---|---|
| Concat | RESCALE of operands with another scale, CONCAT, CLAMP |
| Slice | SLICE; steps as PAD to whole steps, RESHAPE and SLICE of the first of each step |
| Pad | PAD with the zero point |
| Transpose | TRANSPOSE |
| Rearrange | RESHAPE to one row of elements, GATHER, RESHAPE |
| DepthToSpace, SpaceToDepth | RESHAPE, TRANSPOSE, RESHAPE |
| TransposedConv2d | TRANSPOSE_CONV2D, RESCALE per channel, CLAMP; depthwise with the other weights zero |

Where the output has another scale than the input, a RESCALE follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..kernels.movement_ops import (
    Concat,
    DepthToSpace,
    Pad,
    Rearrange,
    Slice,
    SpaceToDepth,
    Transpose,
    TransposedConv2d,
)
from ..kernels.rescale import rescale_operands
from .graph import Graph, Node, constants_of
from .reference import conv_rescale
from .tosa_operators import ACCUMULATORS, clamp, rescale, stage, zero_point
from .tosa_writer import TosaWriter, Value


def concat(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op = node.op
    assert isinstance(op, Concat)
    operands = [_rescaled(w, graph, node, name, x) for name, x in zip(node.inputs, inputs, strict=True)]
    return w.op("CONCAT", operands, (inputs[0].shape[0], *op.output), inputs[0].dtype, op.axis + 1)


def part(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op, x = node.op, inputs[0]
    assert isinstance(op, Slice)
    reach = [count * step for count, step in zip(op.output, (*op.steps, 1), strict=True)]
    missing = [max(0, first + n - size) for first, n, size in zip(op.start, reach, op.input, strict=True)]
    if any(missing):
        x = _padded(w, x, (0, 0), missing[:2], 0)
    x = _slice(w, x, (0, *op.start), (x.shape[0], *reach))
    for axis, step in enumerate(op.steps, start=1):
        if step > 1:
            x = _first_of_each(w, x, axis, step)
    return _rescaled(w, graph, node, node.inputs[0], x)


def pad(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op = node.op
    assert isinstance(op, Pad)
    after = (op.output[0] - op.input[0] - op.top, op.output[1] - op.input[1] - op.left)
    x = _padded(w, inputs[0], (op.top, op.left), after, zero_point(graph, node.inputs[0]))
    return _rescaled(w, graph, node, node.inputs[0], x)


def transpose(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    assert isinstance(node.op, Transpose)
    return _rescaled(w, graph, node, node.inputs[0], _permuted(w, inputs[0], (0, 2, 1, 3)))


def rearranged(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op, x = node.op, inputs[0]
    assert isinstance(op, Rearrange)
    batch, count = x.shape[0], op.indices.size
    places = w.constant(np.broadcast_to(op.indices.reshape(1, -1), (batch, count)), "INT32")
    line = w.reshape(x, (batch, prod(op.input), 1))
    moved = w.reshape(w.op("GATHER", [line, places], (batch, count, 1), x.dtype), (batch, *op.output))
    if op.keeps_integers:
        return clamp(w, moved, node.clamp)
    return _rescaled(w, graph, node, node.inputs[0], moved)


def blocks(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op, x = node.op, inputs[0]
    assert isinstance(op, DepthToSpace | SpaceToDepth)
    rows, cols, channels = op.output
    if isinstance(op, DepthToSpace):
        split, order = (op.input[0], op.input[1], op.block, op.block, channels), (0, 1, 3, 2, 4, 5)
    else:
        split, order = (rows, op.block, cols, op.block, op.input[2]), (0, 1, 3, 2, 4, 5)
    x = _permuted(w, w.reshape(x, (x.shape[0], *split)), order)
    return _rescaled(w, graph, node, node.inputs[0], w.reshape(x, (x.shape[0], rows, cols, channels)))


def transposed_conv2d(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op, x, constants = node.op, inputs[0], constants_of(graph, node)
    assert isinstance(op, TransposedConv2d)
    weights = constants.weights
    if op.depthwise:
        weights = weights * np.eye(op.output[2], dtype=np.int8)[:, None, None, :]
    dtype = ACCUMULATORS[x.dtype]
    operands = [w.constant(weights, "INT8"), w.constant(constants.bias, dtype)]
    zeros = [w.constant([zero_point(graph, node.inputs[0])], x.dtype), w.constant([0], "INT8")]
    edges: list[int] = []
    sizes: list[int] = []
    window = op.window
    axes = ((window.kernel_h, window.stride_h, window.pad_h), (window.kernel_w, window.stride_w, window.pad_w))
    for (kernel, stride, before), size, count in zip(axes, op.input, op.output, strict=False):
        after = max(count + before - (size - 1) * stride - kernel, 1 - kernel)  # TOSA crops less than a kernel
        edges += [-before, after]
        sizes.append((size - 1) * stride + kernel - before + after)
    shape = (x.shape[0], *sizes, op.output[2])
    attribute = (edges, [window.stride_h, window.stride_w], False, f"DType.{dtype}")
    total = w.op("TRANSPOSE_CONV2D", [x, *operands, *zeros], shape, dtype, *attribute)
    total = _slice(w, total, (0, 0, 0, 0), (x.shape[0], *op.output))
    return stage(w, graph, node, total, *conv_rescale(graph, node))


def _rescaled(w: TosaWriter, graph: Graph, node: Node, source: str, x: Value) -> Value:
    """`x`, of the quantisation of `source`, in that of the node's output; RESCALE by one is left out."""
    given, wanted = graph.tensors[source].quantisation, graph.tensors[node.output].quantisation
    if given != wanted:
        operands = rescale_operands(given.scale / wanted.scale)
        x = rescale(w, x, *operands, zero_in=given.zero_point, zero_out=wanted.zero_point, dtype=x.dtype)
    return clamp(w, x, node.clamp)


def _slice(w: TosaWriter, x: Value, start: Sequence[int], sizes: Sequence[int]) -> Value:
    if tuple(sizes) == x.shape:
        return x
    return w.op("SLICE", [x, w.shape(*start), w.shape(*sizes)], sizes, x.dtype)


def _padded(w: TosaWriter, x: Value, before: Sequence[int], after: Sequence[int], value: int) -> Value:
    edges = (0, 0, before[0], after[0], before[1], after[1], 0, 0)
    shape = (x.shape[0], before[0] + x.shape[1] + after[0], before[1] + x.shape[2] + after[1], x.shape[3])
    return w.op("PAD", [x, w.shape(*edges), w.constant([value], x.dtype)], shape, x.dtype)


def _first_of_each(w: TosaWriter, x: Value, axis: int, step: int) -> Value:
    """Every `step`-th element along `axis`, whose size is a multiple of it."""
    split = (*x.shape[:axis], x.shape[axis] // step, step, *x.shape[axis + 1 :])
    kept = (*split[: axis + 1], 1, *split[axis + 2 :])
    x = _slice(w, w.reshape(x, split), (0,) * len(split), kept)
    return w.reshape(x, (*kept[: axis + 1], *kept[axis + 2 :]))


def _permuted(w: TosaWriter, x: Value, order: Sequence[int]) -> Value:
    return w.op("TRANSPOSE", [x], [x.shape[axis] for axis in order], x.dtype, list(order))
