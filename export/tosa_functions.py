"""Tables, products, softmax, reductions and resizing as sequences of TOSA 1.0 operators with the same bits.

| ours | TOSA |
|---|---|
| Table | TABLE, for int16 RESCALE by 2^-7, CLAMP |
| Mul | RESCALE of both by one, MUL in int32, RESCALE, CLAMP |
| Softmax | REDUCE_MAX, SUB, ARITHMETIC_RIGHT_SHIFT, BITWISE_AND, GATHER of both tables, MUL with a shift of 15, REDUCE_SUM, INTDIV, RESCALE, CLAMP |
| Reduce | RESHAPE to groups, RESCALE by one, REDUCE_SUM or REDUCE_MAX, RESCALE, CLAMP |
| Resize | RESIZE, less the zero point of its input times the sum of its weights, RESCALE, CLAMP |

A normalisation has no such form: TOSA's only root is RSQRT, in floating point.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..kernels.function_ops import Mul, Reduce, Reduction, Resize, Softmax
from ..kernels.tables import Exponentials
from .functions import points_of, table_of
from .graph import Graph, Node
from .reference import node_rescale
from .tosa_operators import ACCUMULATORS, clamp, rescale, stage, zero_point
from .tosa_writer import TosaWriter, Value

_ONE = (2**30, 30)  # RESCALE by one, exactly
_PER_128 = (2**30, 37)
_NAN = "NanPropagationMode.PROPAGATE"


def table(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    x, shape = inputs[0], inputs[0].shape
    if x.dtype == "INT16":
        found = w.op("TABLE", [x, w.constant(points_of(graph, node), "INT16")], shape, "INT32")
        return clamp(w, rescale(w, found, *_PER_128, dtype="INT16"), node.clamp)
    values = w.constant(table_of(graph, node).values, "INT8")
    return clamp(w, w.op("TABLE", [x, values], shape, "INT8"), node.clamp)


def mul(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    assert isinstance(node.op, Mul)
    a, b = (_wide(w, graph, x, name) for x, name in zip(inputs, node.inputs, strict=True))
    return stage(w, graph, node, _product(w, a, b), *node_rescale(graph, node))


def softmax(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    assert isinstance(node.op, Softmax)
    logits = _wide(w, graph, inputs[0], node.inputs[0])
    row = (*logits.shape[:3], 1)
    largest = w.op("REDUCE_MAX", [logits], row, "INT32", 3, _NAN)
    below = w.op("SUB", [largest, logits], logits.shape, "INT32")
    powers = Exponentials.of(graph.tensors[node.inputs[0]].quantisation.scale)
    coarse = w.op("ARITHMETIC_RIGHT_SHIFT", [below, _scalar(w, 8)], logits.shape, "INT32", False)
    fine = w.op("BITWISE_AND", [below, _scalar(w, 255)], logits.shape, "INT32")
    factors = [_looked_up(w, powers.coarse, coarse), _looked_up(w, powers.fine, fine)]
    power = _product(w, *factors, shift=15)
    total = w.op("REDUCE_SUM", [power], row, "INT32", 3)
    half = w.op("ARITHMETIC_RIGHT_SHIFT", [total, _scalar(w, 1)], row, "INT32", False)
    raised = w.op("LOGICAL_LEFT_SHIFT", [power, _scalar(w, 15)], power.shape, "INT32")
    rounded = w.op("ADD", [raised, half], power.shape, "INT32")
    share = w.op("INTDIV", [rounded, total], power.shape, "INT32")
    return stage(w, graph, node, share, *node_rescale(graph, node))


def reduce(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op = node.op
    assert isinstance(op, Reduce)
    x = _wide(w, graph, inputs[0], node.inputs[0])
    grouped = (*x.shape[:3], op.output[2], op.count)
    x = w.reshape(x, grouped)
    shape = (*grouped[:4], 1)
    if op.mode is Reduction.MAX:
        x = w.op("REDUCE_MAX", [x], shape, "INT32", 4, _NAN)
    else:
        x = w.op("REDUCE_SUM", [x], shape, "INT32", 4)
    x = w.reshape(x, shape[:4])
    return stage(w, graph, node, x, *node_rescale(graph, node))


def resize(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op, x = node.op, inputs[0]
    assert isinstance(op, Resize)
    axes = tuple(zip((op.vertical, op.horizontal), op.input[:2], op.output[:2], strict=True))
    scales = w.shape(*(v for scale, _, _ in axes for v in (scale.numerator, scale.denominator)))
    offsets = w.shape(*(scale.offset for scale, _, _ in axes))
    borders = w.shape(*((o - 1) * s.denominator - (i - 1) * s.numerator + s.offset for s, i, o in axes))
    mode = "ResizeMode.BILINEAR" if op.bilinear else "ResizeMode.NEAREST"
    shape, dtype = (x.shape[0], *op.output), ACCUMULATORS[x.dtype] if op.bilinear else x.dtype
    found = w.op("RESIZE", [x, scales, offsets, borders], shape, dtype, mode)
    zero = zero_point(graph, node.inputs[0])
    if not op.bilinear:
        return stage(w, graph, node, found, *node_rescale(graph, node), zero_in=zero, narrow=x.dtype == "INT16")
    weights = op.vertical.numerator * op.horizontal.numerator
    centred = w.op("SUB", [found, _scalar(w, zero * weights)], shape, "INT32") if zero else found
    return stage(w, graph, node, centred, *node_rescale(graph, node))


def _wide(w: TosaWriter, graph: Graph, x: Value, name: str) -> Value:
    """x − zero point as int32."""
    return rescale(w, x, *_ONE, zero_in=zero_point(graph, name))


def _product(w: TosaWriter, a: Value, b: Value, shift: int = 0) -> Value:
    shape = np.broadcast_shapes(a.shape, b.shape)
    return w.op("MUL", [a, b, w.constant([shift], "INT8")], shape, "INT32")


def _scalar(w: TosaWriter, value: int) -> Value:
    return w.constant(np.full((1, 1, 1, 1), value), "INT32")


def _looked_up(w: TosaWriter, entries: np.ndarray, index: Value) -> Value:
    """`entries` at every element of `index`, through GATHER, which wants one row of indices for each batch."""
    count = prod(index.shape)
    flat = w.reshape(index, (1, count))
    values = w.constant(entries.reshape(1, -1, 1), "INT32")
    found = w.op("GATHER", [values, flat], (1, count, 1), "INT32")
    return w.reshape(found, index.shape)
