"""The meaning of graph nodes that read or write bf16; see `kernels/reference_bf16.py`."""

from __future__ import annotations

from ..common.errors import UnsupportedError
from ..kernels import reference_bf16
from ..kernels.ops import Add, Conv2d, MatMul, Pool2d, Requantise
from ..kernels.reference import Map
from .graph import ConvConstants, Graph, Node


def run_bf16(graph: Graph, node: Node, inputs: list[Map], constants: ConvConstants | None) -> Map:
    """The result of one operator; `constants` are those of a convolution."""
    op, x = node.op, inputs[0]
    match op:
        case Conv2d():
            assert constants is not None
            shape = (op.window, op.output[:2], node.clamp)
            return reference_bf16.conv2d(x, constants.weights, constants.bias, *shape, depthwise=op.depthwise)
        case Pool2d():
            pool = reference_bf16.max_pool if op.maximum else reference_bf16.average_pool
            return pool(x, op.window, op.output[:2], node.clamp)
        case Add():
            return reference_bf16.add(x, inputs[1], node.clamp)
        case MatMul():
            return reference_bf16.matmul(x, inputs[1], node.clamp, transposed=op.transposed)
        case Requantise():
            return _convert(graph, node, x)
    raise UnsupportedError(f"{type(op).__name__} has no meaning in bf16", where=f"node {node.name!r}")


def _convert(graph: Graph, node: Node, x: Map) -> Map:
    """A requantisation from or to bf16."""
    source, target = (graph.tensors[name] for name in (node.inputs[0], node.output))
    if source.dtype == target.dtype:
        return reference_bf16.finish(x, node.clamp)
    if target.dtype == "bf16":
        return reference_bf16.dequantise(x, source.quantisation.scale, source.quantisation.zero_point, node.clamp)
    scale, zero_point = target.quantisation.scale, target.quantisation.zero_point
    return reference_bf16.quantise(x, scale, zero_point, node.clamp, target.dtype)
