"""Neutral constants for graphs that have only shapes: enough to compile and to time, since shapes alone decide time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..kernels.function_ops import Norm, Table
from ..kernels.ops import Conv2d
from .graph import Constants, ConvConstants, FunctionConstants, Graph, Node, NormConstants, TableConstants

_TYPES = {"int8": (np.int8, np.int32), "int16": (np.int8, np.int64), "bf16": (np.float32, np.float32)}
_EPSILON = 1e-5


def with_zero_weights(graph: Graph) -> Graph:
    """The same graph with constants where it has none yet: zero weights and biases, functions and normalisations that
    are zero and one."""
    missing = (node for node in graph.nodes if node.name not in graph.constants)
    blank = {node.name: found for node in missing if (found := _neutral(node)) is not None}
    return replace(graph, constants={**blank, **graph.constants})


def _neutral(node: Node) -> Constants | None:
    match node.op:
        case Conv2d():
            return _zeros(node.op)
        case Table(dtype="int8"):
            return TableConstants(np.zeros(256, np.int8))
        case Table():
            return FunctionConstants(_nothing, 1.0)
        case Norm():
            channels = node.op.output[2]
            return NormConstants(np.ones(channels), np.zeros(channels), _EPSILON)
        case _:
            return None


def _zeros(conv: Conv2d) -> ConvConstants:
    count = conv.output[2]
    shape = (count, conv.window.kernel_h, conv.window.kernel_w, 1 if conv.depthwise else conv.input[2])
    weights, bias = _TYPES[conv.dtype]
    return ConvConstants(np.zeros(shape, weights), np.zeros(count, bias), np.ones(count))


def _nothing(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.zeros(values.shape, np.float32)
