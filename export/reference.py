"""The integer meaning of a whole graph: a walk over `kernels.reference`, and the scales that go with each node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from ..common.errors import InputError, ModelError
from ..kernels import reference, reference_bf16, reference_movement
from ..kernels import reference_functions as functions
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.element_types import input_name, output_name
from ..kernels.function_ops import Mul, Norm, Reduce, Reduction, Resize, Softmax, Table
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
from ..kernels.reference import Map, Stage
from ..kernels.rescale import add_operands, conv_operands, rescale_operands
from ..kernels.tables import Exponentials, norm_epsilon, norm_records
from ..targets.program import HOST_TYPES
from .functions import attention_of, fixed_map, norm_of, points_of, table_of
from .graph import Graph, Node, Tensor, constants_of
from .reference_bf16 import run_bf16


def conv_rescale(graph: Graph, node: Node) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Multiplier and shift per output channel, for the scale input × weight / output."""
    ratio = _scale(graph, node.inputs[0]) / _scale(graph, node.output)
    dtype = graph.tensors[node.inputs[0]].dtype
    pairs = [conv_operands(ratio * float(scale), dtype) for scale in constants_of(graph, node).scales]
    multipliers, shifts = np.array(pairs, np.int64).T
    return multipliers, shifts


def node_rescale(graph: Graph, node: Node) -> tuple[int, int]:
    """Multiplier and shift of an operator with one RESCALE; an average also divides by its window, and so on."""
    ratio = _scale(graph, node.inputs[0]) / _scale(graph, node.output)
    match node.op:
        case Pool2d():
            return rescale_operands(ratio / node.op.window.taps)
        case Reduce(mode=Reduction.MEAN):
            return rescale_operands(ratio / node.op.count)
        case Resize():
            weights = node.op.vertical.numerator * node.op.horizontal.numerator if node.op.bilinear else 1
            return conv_operands(ratio / weights, node.op.dtype)
        case Mul():
            return rescale_operands(ratio * _scale(graph, node.inputs[1]))
        case Softmax():
            return rescale_operands(2.0**-15 / _scale(graph, node.output))
        case _:
            return rescale_operands(ratio)


def add_rescale(graph: Graph, node: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Operands of the first input, the second input and the sum."""
    a, b, total = (_scale(graph, name) for name in (*node.inputs, node.output))
    return add_operands(a, b, total, graph.tensors[node.output].dtype)


def matmul_rescale(graph: Graph, node: Node) -> tuple[int, int]:
    """Multiplier and shift of a product of two activations."""
    a, b, product = (_scale(graph, name) for name in (*node.inputs, node.output))
    return conv_operands(a * b / product, graph.tensors[node.output].dtype)


def run_graph(graph: Graph, inputs: Mapping[str, Map]) -> dict[str, Map]:
    """Every output of `graph` for maps (batch, height, width, channels) by tensor name; bf16 ones are float32."""
    values: dict[str, Map] = {name: _checked(graph.tensors[name], inputs) for name in graph.inputs}
    for name in graph.fixed:
        batch = len(next(iter(values.values()))) if values else 1
        values[name] = np.broadcast_to(fixed_map(graph, name), (batch, *graph.tensors[name].shape))
    for node in graph.nodes:
        if node.extra:
            values |= zip(
                (node.output, *node.extra), _run_pair(graph, node, [values[n] for n in node.inputs]), strict=True
            )
        else:
            values[node.output] = _run_node(graph, node, [values[name] for name in node.inputs])
    return {name: values[name] for name in graph.outputs}


def run_region(graph: Graph, inputs: Mapping[str, Map]) -> dict[str, Map]:
    """As `run_graph`, for arrays in the host's layout: (batch, channels, height, width) or (batch, features)."""
    maps = {name: to_map(inputs[name], graph.tensors[name]) for name in graph.inputs if name in inputs}
    return {name: to_host(value, graph.tensors[name]) for name, value in run_graph(graph, maps).items()}


def to_map(array: NDArray, tensor: Tensor) -> NDArray:
    """Host layout → (batch, height, width, channels)."""
    height, width, channels = tensor.shape
    if tensor.channels_last:
        return array.reshape(len(array), height, width, channels)
    return array.reshape(len(array), channels, height, width).transpose(0, 2, 3, 1)


def to_host(array: NDArray, tensor: Tensor) -> NDArray:
    """(batch, height, width, channels) → host layout, contiguous."""
    if tensor.channels_last:
        return np.ascontiguousarray(array).reshape(len(array), *(tensor.host_shape or tensor.shape))
    shape = tensor.host_shape or (tensor.shape[2], *tensor.shape[:2])
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)).reshape(len(array), *shape)


def _run_node(graph: Graph, node: Node, inputs: list[Map]) -> Map:
    if "bf16" in (input_name(node.op), output_name(node.op)):
        return run_bf16(graph, node, inputs)
    zeros = [graph.tensors[name].quantisation.zero_point for name in node.inputs]
    zero_out = graph.tensors[node.output].quantisation.zero_point
    op, dtype = node.op, output_name(node.op)
    match op:
        case Conv2d():
            stage = Stage(*conv_rescale(graph, node), zero_out, node.clamp, dtype)
            c = constants_of(graph, node)
            return reference.conv2d(
                inputs[0], zeros[0], c.weights, c.bias, op.window, op.output[:2], stage, depthwise=op.depthwise
            )
        case Pool2d(maximum=True):
            return reference.max_pool(inputs[0], op.window, op.output[:2], node.clamp)
        case Pool2d():
            stage = Stage(*node_rescale(graph, node), zero_out, node.clamp, dtype)
            return reference.average_pool(inputs[0], zeros[0], op.window, op.output[:2], stage)
        case Add():
            a, b, total = add_rescale(graph, node)
            stage = Stage(*total, zero_out, node.clamp, dtype)
            return reference.add(inputs[0], inputs[1], (zeros[0], zeros[1]), (a, b), stage)
        case MatMul():
            stage = Stage(*matmul_rescale(graph, node), zero_out, node.clamp, dtype)
            return reference.matmul(inputs[0], inputs[1], (zeros[0], zeros[1]), stage, transposed=op.transposed)
        case Requantise():
            stage = Stage(*node_rescale(graph, node), zero_out, node.clamp, dtype)
            return reference.requantise(inputs[0], zeros[0], stage)
        case CuboidAttention():
            return _run_attention(graph, node, op, inputs[0])
        case Table() | Norm():
            return _run_constants(graph, node, inputs[0])
        case Mul() | Softmax() | Reduce() | Resize():
            stage = Stage(*node_rescale(graph, node), zero_out, node.clamp, dtype)
            return _run_function(op, inputs, zeros, stage, _scale(graph, node.inputs[0]))
        case Concat():
            operands = zip(node.inputs, inputs, strict=True)
            return reference_movement.concat([_requantised(graph, node, name, x) for name, x in operands], op)
        case TransposedConv2d():
            stage = Stage(*conv_rescale(graph, node), zero_out, node.clamp, dtype)
            c = constants_of(graph, node)
            return reference_movement.transposed_conv2d(inputs[0], zeros[0], c.weights, c.bias, op, stage)
        case Slice() | Pad() | Transpose() | Rearrange() | DepthToSpace() | SpaceToDepth():
            moved = reference_movement.rearrange(inputs[0], op, zeros[0])
            if isinstance(op, Rearrange) and op.keeps_integers:
                return np.clip(moved, *node.clamp).astype(moved.dtype)
            return _requantised(graph, node, node.inputs[0], moved)
        case _:
            assert_never(op)


def _run_pair(graph: Graph, node: Node, inputs: list[Map]) -> tuple[Map, Map]:
    """Cuboid attention with global vectors: both results."""
    op, layer = node.op, attention_of(graph, node)
    assert isinstance(op, CuboidAttention)
    groups = op.groups()
    pairs = [layer.with_globals(x.reshape(*op.size, -1), g[0], groups) for x, g in zip(*inputs, strict=True)]
    return np.stack([y.reshape(op.output) for y, _ in pairs]), np.stack([g[None] for _, g in pairs])


def _run_attention(graph: Graph, node: Node, op: CuboidAttention, x: Map) -> Map:
    layer = attention_of(graph, node)
    return np.stack([layer(sample.reshape(*op.size, -1)).reshape(op.output) for sample in x])


def _run_function(
    op: Mul | Softmax | Reduce | Resize, inputs: list[Map], zeros: list[int], stage: Stage, scale: float
) -> Map:
    match op:
        case Mul():
            return functions.mul(inputs[0], inputs[1], (zeros[0], zeros[1]), stage)
        case Softmax():
            return functions.softmax(inputs[0], Exponentials.of(scale), stage)
        case Reduce():
            return functions.reduce(inputs[0], op, zeros[0], stage)
        case Resize():
            return functions.resize(inputs[0], op, zeros[0], stage)


def _run_constants(graph: Graph, node: Node, x: Map) -> Map:
    op = node.op
    if isinstance(op, Table) and op.dtype == "int16":
        return functions.table16(x, points_of(graph, node), node.clamp)
    if isinstance(op, Table):
        return functions.table(x, table_of(graph, node).values, node.clamp)
    assert isinstance(op, Norm)
    found, out = norm_of(graph, node), graph.tensors[node.output].quantisation
    epsilon = norm_epsilon(op, found.epsilon, _scale(graph, node.inputs[0]))
    records = norm_records(op, found.gamma, found.beta, out.scale)
    return functions.norm(x, op, epsilon, records, out.zero_point, node.clamp)


def _requantised(graph: Graph, node: Node, source: str, x: Map) -> Map:
    """`x` in the scale of `source` in that of the node's output; the identity where they are equal."""
    given, wanted = graph.tensors[source].quantisation, graph.tensors[node.output].quantisation
    stage = Stage(*rescale_operands(given.scale / wanted.scale), wanted.zero_point, node.clamp, str(x.dtype))
    return reference.requantise(x, given.zero_point, stage)


def _scale(graph: Graph, tensor: str) -> float:
    return graph.tensors[tensor].quantisation.scale


def _checked(tensor: Tensor, inputs: Mapping[str, Map]) -> Map:
    if tensor.name not in inputs:
        raise ModelError(f"no value for input {tensor.name!r}", hint=f"given: {', '.join(sorted(inputs)) or 'nothing'}")
    value, wanted = inputs[tensor.name], HOST_TYPES[tensor.dtype]
    if value.dtype != wanted or value.shape[1:] != tensor.shape:
        raise InputError(
            f"{tensor.name!r} takes {wanted} maps {tensor.shape}, got {value.dtype} {value.shape[1:]}",
            where="integer reference",
        )
    return reference_bf16.to_bf16(value) if tensor.dtype == "bf16" else value
