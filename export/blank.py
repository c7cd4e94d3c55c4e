"""Zero weights for graphs that have only shapes: enough to compile and to time, since shapes alone decide time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..kernels.ops import Conv2d
from .graph import ConvConstants, Graph

_TYPES = {"int8": (np.int8, np.int32), "int16": (np.int8, np.int64), "bf16": (np.float32, np.float32)}


def with_zero_weights(graph: Graph) -> Graph:
    """The same graph with zero weights and biases for every convolution that has no constants yet."""
    blank = {node.name: _zeros(node.op) for node in graph.nodes if isinstance(node.op, Conv2d)}
    return replace(graph, constants={**blank, **graph.constants})


def _zeros(conv: Conv2d) -> ConvConstants:
    count = conv.output[2]
    shape = (count, conv.window.kernel_h, conv.window.kernel_w, 1 if conv.depthwise else conv.input[2])
    weights, bias = _TYPES[conv.dtype]
    return ConvConstants(np.zeros(shape, weights), np.zeros(count, bias), np.ones(count))
