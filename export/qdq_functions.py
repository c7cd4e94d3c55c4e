"""Products, softmax, normalisation and reductions as ONNX operators on real numbers; see `qdq`.

Tables and resizes are left out: a table has no meaning but its entries, and TOSA has both to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from onnx import TensorProto

from ..kernels.function_ops import Mul, Norm, Reduce, Reduction, Softmax
from .functions import norm_of
from .graph import Graph, Node
from .qdq_writer import QdqWriter, is_vector

_REDUCTIONS = {Reduction.SUM: "ReduceSum", Reduction.MEAN: "ReduceMean", Reduction.MAX: "ReduceMax"}
_SHARE_BITS = 15
_LEAST_VARIANCE = 1e-12  # in squared steps of the input: keeps 0 / 0 away from groups of equal elements


def mul(w: QdqWriter, graph: Graph, node: Node, inputs: Sequence[str]) -> str:
    op, (a, b) = node.op, inputs
    assert isinstance(op, Mul)
    if op.gate and not is_vector(graph, node.inputs[0]) and is_vector(graph, node.inputs[1]):
        b = w.reshape(b, f"{node.name}.gate", (0, op.output[2], 1, 1))
    return w.op("Mul", node.name, [a, b])


def softmax(w: QdqWriter, graph: Graph, node: Node, inputs: Sequence[str]) -> str:
    return w.op("Softmax", node.name, inputs, axis=1)


def softmax_steps(graph: Graph, node: Node) -> int:
    """By how many output steps shares with 15 fraction bits may differ from real ones, rounding apart.

    An exponential is off by at most 2 units of 2^−15: half for each of two tables, half for their product, and the
    table's 1 − 2^−15 for 1. So are all that a sum of at least one adds up.
    """
    assert isinstance(node.op, Softmax)
    reach = 2 * (1 + node.op.output[2]) * 2.0**-_SHARE_BITS
    return ceil(reach / graph.tensors[node.output].quantisation.scale)


def norm(w: QdqWriter, graph: Graph, node: Node, inputs: Sequence[str]) -> str:
    """Mean and variance of (n, instances, elements) in float64, then scale and offset, in the layout of the map.

    In float32 the mean of a group of equal elements is off by so much that a small epsilon blows it up.
    """
    op, constants = node.op, norm_of(graph, node)
    assert isinstance(op, Norm)
    height, width, channels = op.output
    split = (0, op.groups, op.group, height, width)
    x = w.reshape(inputs[0], f"{node.name}.split", split)
    order = (0, 1, 3, 4, 2) if op.over_map else (0, 3, 4, 1, 2)
    instances = op.groups if op.over_map else height * width * op.groups
    x = w.op("Transpose", f"{node.name}.instances", [x], perm=order)
    x = w.reshape(x, f"{node.name}.rows", (0, instances, op.count))
    unit = graph.tensors[node.inputs[0]].quantisation.scale ** 2
    x = _standardised(w, node.name, x, max(constants.epsilon, _LEAST_VARIANCE * unit))
    x = w.reshape(x, f"{node.name}.places", (0, *(split[axis] for axis in order[1:])))
    x = w.op("Transpose", f"{node.name}.back", [x], perm=[order.index(axis) for axis in range(5)])
    x = w.reshape(
        x, f"{node.name}.map", (0, channels) if is_vector(graph, node.output) else (0, channels, height, width)
    )
    shape = (1, channels) if is_vector(graph, node.output) else (1, channels, 1, 1)
    gamma, beta = (
        w.constant(f"{node.name}.{name}", values.reshape(shape), np.float32)
        for name, values in (("gamma", constants.gamma), ("beta", constants.beta))
    )
    return w.op("Add", f"{node.name}.shifted", [w.op("Mul", f"{node.name}.scaled", [x, gamma]), beta])


def _standardised(w: QdqWriter, name: str, x: str, epsilon: float) -> str:
    """(x − mean) / √(variance + epsilon) over the last axis of three."""
    axes = w.constant(f"{name}.axes", [2], np.int64)
    wide = w.op("Cast", f"{name}.wide", [x], to=TensorProto.DOUBLE)
    mean = w.op("ReduceMean", f"{name}.mean", [wide, axes])
    centred = w.op("Sub", f"{name}.centred", [wide, mean])
    variance = w.op("ReduceMean", f"{name}.variance", [w.op("Mul", f"{name}.squares", [centred, centred]), axes])
    raised = w.op("Add", f"{name}.raised", [variance, w.constant(f"{name}.epsilon", epsilon, np.float64)])
    found = w.op("Div", name, [centred, w.op("Sqrt", f"{name}.deviation", [raised])])
    return w.op("Cast", f"{name}.float", [found], to=TensorProto.FLOAT)


def reduce(w: QdqWriter, graph: Graph, node: Node, inputs: Sequence[str]) -> str:
    op = node.op
    assert isinstance(op, Reduce)
    height, width, channels = op.output
    x = w.reshape(inputs[0], f"{node.name}.grouped", (0, channels, op.count, height * width))
    axes = w.constant(f"{node.name}.axes", [2], np.int64)
    x = w.op(_REDUCTIONS[op.mode], node.name, [x, axes], keepdims=0)
    tail = () if is_vector(graph, node.output) else (height, width)
    return w.reshape(x, f"{node.name}.map", (0, channels, *tail))
