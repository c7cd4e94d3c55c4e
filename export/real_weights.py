"""The weights of a float ONNX model, for operators that do without quantised ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from ..kernels.ops import Conv2d, Shape
from .graph import ConvConstants, Graph
from .onnx_model import GraphIndex, attribute
from .sites import LINEAR

_CLOSE_STEPS = 1.0  # of int8: weights further from the quantised ones belong to another operator or order


def real_weights(model: ModelProto, graph: Graph) -> dict[str, NDArray[np.float32]]:
    """Weights [out][row][column][in] by node of `graph`, wherever an operator of `model` has its name and, up to the
    rounding of int8, its values; the quantiser may have folded other operators into the rest."""
    nodes = {node.name: node for node in model.graph.node}
    index = GraphIndex(model)
    found: dict[str, NDArray[np.float32]] = {}
    for node in graph.nodes:
        constants = graph.constants.get(node.name)
        source = next((nodes[name] for name in (node.name, *node.source) if name in nodes), None)
        if source is None or not isinstance(constants, ConvConstants) or not isinstance(node.op, Conv2d):
            continue
        weights = _in_order(index, source, node.op.input)
        if weights is not None and _is_same(weights, constants):
            found[node.name] = weights
    return found


def _in_order(index: GraphIndex, source: NodeProto, shape: Shape) -> NDArray[np.float32] | None:
    values = index.constants.get(source.input[1]) if len(source.input) > 1 else None
    if values is None or values.dtype != np.float32:
        return None
    if source.op_type == "Conv":
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1)) if values.ndim == 4 else None
    if source.op_type not in LINEAR or values.ndim != 2:
        return None
    rows = values if attribute(source, "transB", 0) else values.T
    height, width, channels = shape
    if rows.shape[1] != height * width * channels:
        return None
    return np.ascontiguousarray(rows.reshape(-1, channels, height, width).transpose(0, 2, 3, 1))


def _is_same(weights: NDArray[np.float32], constants: ConvConstants) -> bool:
    if weights.shape != constants.weights.shape:
        return False
    steps = weights / constants.scales[:, None, None, None] - constants.weights
    return bool(np.abs(steps).max() <= _CLOSE_STEPS)
