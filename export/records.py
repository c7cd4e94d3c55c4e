"""Weight records of convolutions: what the engine reads in front of and as the weights of each output channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ModelError
from ..kernels.element_types import input_type
from ..kernels.kernel import record_pitch
from ..kernels.ops import Conv2d
from ..kernels.rescale import conv_operands
from ..targets.elements import narrowed
from ..targets.isa import RECORD_HEADER_BYTES, DType
from .graph import ConvConstants, Graph, Node


def record_bytes(graph: Graph, node: Node) -> bytes:
    """The records of one convolution; `targets.isa` has their form. Raises `ModelError` without constants."""
    conv, constants = node.op, graph.constants.get(node.name)
    assert isinstance(conv, Conv2d)
    if not isinstance(constants, ConvConstants):
        raise ModelError("the graph has shapes but no weights", where=f"node {node.name!r}")
    table = np.zeros((conv.output[2], record_pitch(conv)), np.uint8)
    header, weights = _header(graph, node, constants), _weights(constants, input_type(conv))
    table[:, : header.shape[1]] = header
    table[:, RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + weights.shape[1]] = weights
    return table.tobytes()


def _header(graph: Graph, node: Node, constants: ConvConstants) -> NDArray[np.uint8]:
    """Bias and scale of every channel, (channels, bytes)."""
    kind = input_type(node.op)
    if kind is DType.BF16:
        return _raw(constants.bias, "<f4")
    multiplier, shift = _scales(graph, node, constants)
    if kind is DType.INT8:
        return np.hstack([_raw(value, "<i4") for value in (constants.bias, multiplier, shift)])
    return np.hstack([_raw(constants.bias, "<i8"), _raw(multiplier, "<i2"), _raw(shift, "<i2")])


def _scales(graph: Graph, node: Node, constants: ConvConstants) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    source = graph.tensors[node.inputs[0]]
    target = graph.tensors[node.output].quantisation.scale
    ratios = [source.quantisation.scale * float(scale) / target for scale in constants.scales]
    pairs = np.array([conv_operands(ratio, source.dtype) for ratio in ratios], np.int64)
    return pairs[:, 0], pairs[:, 1]


def _weights(constants: ConvConstants, kind: DType) -> NDArray[np.uint8]:
    rows = constants.weights.reshape(len(constants.weights), -1)
    return _raw(
        narrowed(rows.astype(np.float32)) if kind is DType.BF16 else rows, "<u2" if kind is DType.BF16 else "i1"
    )


def _raw(values: NDArray, dtype: str) -> NDArray[np.uint8]:
    """Little-endian bytes of (channels,) or (channels, n) values, (channels, bytes)."""
    return np.ascontiguousarray(values.astype(dtype).reshape(len(values), -1)).view(np.uint8)
