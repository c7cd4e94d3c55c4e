"""The integer meaning of a whole graph: a walk over `kernels.reference`, and the scales that go with each node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from ..common.errors import InputError, ModelError, UnsupportedError
from ..kernels import reference
from ..kernels.ops import Add, Conv2d, Pool2d, Requantise
from ..kernels.reference import Map, Stage
from ..kernels.rescale import add_operands, rescale_operands
from .graph import ConvConstants, Graph, Node, Tensor


def conv_rescale(graph: Graph, node: Node) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Multiplier and shift per output channel, for the scale input × weight / output."""
    ratio = _scale(graph, node.inputs[0]) / _scale(graph, node.output)
    pairs = [rescale_operands(ratio * float(scale)) for scale in constants_of(graph, node).scales]
    multipliers, shifts = np.array(pairs, np.int64).T
    return multipliers, shifts


def node_rescale(graph: Graph, node: Node) -> tuple[int, int]:
    """Multiplier and shift of a requantisation or an average; an average also divides by its window."""
    ratio = _scale(graph, node.inputs[0]) / _scale(graph, node.output)
    count = node.op.window.taps if isinstance(node.op, Pool2d) else 1
    return rescale_operands(ratio / count)


def add_rescale(graph: Graph, node: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Operands of the first input, the second input and the sum."""
    return add_operands(*(_scale(graph, name) for name in (*node.inputs, node.output)))


def run_graph(graph: Graph, inputs: Mapping[str, Map]) -> dict[str, Map]:
    """Every output of `graph` for int8 maps (batch, height, width, channels) by tensor name."""
    values: dict[str, Map] = {name: _checked(graph.tensors[name], inputs) for name in graph.inputs}
    for node in graph.nodes:
        values[node.output] = _run_node(graph, node, [values[name] for name in node.inputs])
    return {name: values[name] for name in graph.outputs}


def run_region(graph: Graph, inputs: Mapping[str, Map]) -> dict[str, Map]:
    """As `run_graph`, for arrays in the host's layout: (batch, channels, height, width) or (batch, features)."""
    maps = {name: to_map(inputs[name], graph.tensors[name]) for name in graph.inputs if name in inputs}
    return {name: to_host(value, graph.tensors[name]) for name, value in run_graph(graph, maps).items()}


def to_map(array: NDArray, tensor: Tensor) -> NDArray:
    """Host layout → (batch, height, width, channels)."""
    height, width, channels = tensor.shape
    return array.reshape(len(array), channels, height, width).transpose(0, 2, 3, 1)


def to_host(array: NDArray, tensor: Tensor) -> NDArray:
    """(batch, height, width, channels) → host layout, contiguous."""
    shape = tensor.host_shape or (tensor.shape[2], *tensor.shape[:2])
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)).reshape(len(array), *shape)


def _run_node(graph: Graph, node: Node, inputs: list[Map]) -> Map:
    zeros = [graph.tensors[name].quantisation.zero_point for name in node.inputs]
    zero_out = graph.tensors[node.output].quantisation.zero_point
    op = node.op
    match op:
        case Conv2d():
            stage = Stage(*conv_rescale(graph, node), zero_out, node.clamp)
            c = constants_of(graph, node)
            return reference.conv2d(
                inputs[0], zeros[0], c.weights, c.bias, op.window, op.output[:2], stage, depthwise=op.depthwise
            )
        case Pool2d(maximum=True):
            return reference.max_pool(inputs[0], op.window, op.output[:2], node.clamp)
        case Pool2d():
            stage = Stage(*node_rescale(graph, node), zero_out, node.clamp)
            return reference.average_pool(inputs[0], zeros[0], op.window, op.output[:2], stage)
        case Add():
            a, b, total = add_rescale(graph, node)
            stage = Stage(*total, zero_out, node.clamp)
            return reference.add(inputs[0], inputs[1], (zeros[0], zeros[1]), (a, b), stage)
        case Requantise():
            return reference.requantise(inputs[0], zeros[0], Stage(*node_rescale(graph, node), zero_out, node.clamp))
        case _:
            assert_never(op)


def _scale(graph: Graph, tensor: str) -> float:
    return graph.tensors[tensor].quantisation.scale


def constants_of(graph: Graph, node: Node) -> ConvConstants:
    """The constants of a node; `UnsupportedError` in a shape-only graph."""
    if node.name not in graph.constants:
        raise UnsupportedError("a shape-only graph has no weights to execute", where=f"node {node.name!r}")
    return graph.constants[node.name]


def _checked(tensor: Tensor, inputs: Mapping[str, Map]) -> Map:
    if tensor.name not in inputs:
        raise ModelError(f"no value for input {tensor.name!r}", hint=f"given: {', '.join(sorted(inputs)) or 'nothing'}")
    value = inputs[tensor.name]
    if value.dtype != np.int8 or value.shape[1:] != tensor.shape:
        raise InputError(
            f"{tensor.name!r} takes int8 maps {tensor.shape}, got {value.dtype} {value.shape[1:]}",
            where="integer reference",
        )
    return value
