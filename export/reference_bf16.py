"""The meaning of graph nodes that read or write bf16; see `kernels/reference_bf16.py`."""

from __future__ import annotations

import numpy as np

from ..common.errors import UnsupportedError
from ..kernels import reference_bf16, reference_movement
from ..kernels import reference_functions_bf16 as functions
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.function_ops import Mul, Norm, Reduce, Resize, Softmax, Table
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
from ..kernels.ops import Add, Conv2d, MatMul, Pool2d, Requantise
from ..kernels.reference import Map
from .functions import float_attention_of, floats_of, norm_of
from .graph import Graph, Node, constants_of


def run_bf16(graph: Graph, node: Node, inputs: list[Map]) -> Map:
    """The result of one operator."""
    op, x = node.op, inputs[0]
    match op:
        case Conv2d():
            c, shape = constants_of(graph, node), (op.window, op.output[:2], node.clamp)
            return reference_bf16.conv2d(x, c.weights, c.bias, *shape, depthwise=op.depthwise)
        case TransposedConv2d():
            c = constants_of(graph, node)
            return reference_bf16.transposed_conv2d(x, c.weights, c.bias, op, node.clamp)
        case Pool2d():
            pool = reference_bf16.max_pool if op.maximum else reference_bf16.average_pool
            return pool(x, op.window, op.output[:2], node.clamp)
        case Add():
            return reference_bf16.add(x, inputs[1], node.clamp)
        case MatMul():
            return reference_bf16.matmul(x, inputs[1], node.clamp, transposed=op.transposed)
        case Requantise():
            return _convert(graph, node, x)
        case Table() | Norm() | Mul() | Softmax() | Reduce() | Resize():
            return _function(graph, node, op, inputs)
        case CuboidAttention():
            layer = float_attention_of(graph, node)
            return np.stack([layer(sample.reshape(*op.size, -1)).reshape(op.output) for sample in x])
        case Concat():
            return reference_bf16.finish(reference_movement.concat(inputs, op), node.clamp)
        case Slice() | Pad() | Transpose() | Rearrange() | DepthToSpace() | SpaceToDepth():
            return reference_bf16.finish(reference_movement.rearrange(x, op, 0), node.clamp)
    raise UnsupportedError(f"{type(op).__name__} has no meaning in bf16", where=f"node {node.name!r}")


def _function(graph: Graph, node: Node, op: Table | Norm | Mul | Softmax | Reduce | Resize, inputs: list[Map]) -> Map:
    x, clamp = inputs[0], node.clamp
    match op:
        case Table():
            return functions.table(x, floats_of(graph, node), clamp)
        case Norm():
            found = norm_of(graph, node)
            return functions.norm(x, op, found.epsilon, found.gamma, found.beta, clamp)
        case Mul():
            return functions.mul(x, inputs[1], clamp)
        case Softmax():
            return functions.softmax(x, clamp)
        case Reduce():
            return functions.reduce(x, op, clamp)
        case Resize():
            return functions.resize(x, op, clamp)


def _convert(graph: Graph, node: Node, x: Map) -> Map:
    """A requantisation from or to bf16."""
    source, target = (graph.tensors[name] for name in (node.inputs[0], node.output))
    if source.dtype == target.dtype:
        return reference_bf16.finish(x, node.clamp)
    if target.dtype == "bf16":
        return reference_bf16.dequantise(x, source.quantisation.scale, source.quantisation.zero_point, node.clamp)
    scale, zero_point = target.quantisation.scale, target.quantisation.zero_point
    return reference_bf16.quantise(x, scale, zero_point, node.clamp, target.dtype)
