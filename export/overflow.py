"""Operators whose RESCALE could leave int32 for some input: refused when they are compiled, not met at run time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..common.errors import UnsupportedError
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.element_types import full_range
from ..kernels.function_ops import Mul, Norm, Reduce, Reduction, Softmax, Table
from ..kernels.ops import Add, Conv2d, MatMul
from .graph import ConvConstants, Graph, Node, Tensor
from .partition import computing

_LIMIT = 2.0**31


def refuse_overflow(graph: Graph, node: Node) -> None:
    """Raises `UnsupportedError` where the largest inputs make a rescaled value that int32 does not hold.

    bf16 has no RESCALE; tables, normalisations and attention carry bounds of their own.
    """
    kinds = [graph.tensors[name].dtype for name in (*node.inputs, node.output)]
    if "bf16" in kinds or isinstance(node.op, Table | Norm | CuboidAttention):
        return
    steps = _reach(graph, node) / graph.tensors[node.output].quantisation.scale
    if steps >= _LIMIT:
        raise UnsupportedError(
            f"a result may reach {steps:.3g} steps of its scale, beyond the int32 of a RESCALE",
            where=f"node {node.name!r}",
            hint=f"the scale of {node.output!r} does not fit those of its operands; quantise it again",
        )


def _reach(graph: Graph, node: Node) -> float:
    """The largest magnitude of a result in real numbers, before it is clamped."""
    op = computing(node)
    given = [largest(graph.tensors[name]) for name in node.inputs]
    match op:
        case Conv2d():
            return _conv_reach(graph, node, given)
        case Add():
            return given[0] + given[1]
        case Mul():
            return given[0] * given[1]
        case MatMul():
            return given[0] * given[1] * op.input[2]
        case Softmax():
            return 1.0
        case Reduce(mode=Reduction.SUM):
            return given[0] * op.count
        case _:
            return given[0]


def _conv_reach(graph: Graph, node: Node, given: Sequence[float]) -> float:
    constants = graph.constants.get(node.name)
    if not isinstance(constants, ConvConstants):
        return 0.0  # lowering says what a shape-only graph lacks
    sums = np.abs(constants.weights.astype(np.int64)).sum(axis=(1, 2, 3))
    bias = np.abs(constants.bias.astype(np.float64)) * graph.tensors[node.inputs[0]].quantisation.scale
    return float((constants.scales * (given[0] * sums + bias)).max())


def largest(tensor: Tensor) -> float:
    """The largest magnitude that a map of integers can hold, in real numbers."""
    low, high = full_range(tensor.dtype)
    own = tensor.quantisation
    return own.scale * max(high - own.zero_point, own.zero_point - low)
