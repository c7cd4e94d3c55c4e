"""Batch normalisation that follows no convolution → a depthwise 1×1 convolution, which the engine has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from .onnx_model import GraphIndex, attribute, copy_of, with_static_shapes

_MAP_RANK = 4


def norms_as_convolutions(model: ModelProto) -> ModelProto:
    """A copy in which normalisations of maps by constants are convolutions of the same name and value."""
    if not any(node.op_type == "BatchNormalization" for node in model.graph.node):
        return model
    index = GraphIndex(with_static_shapes(model))
    model = copy_of(model)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and _is_foldable(index, node):
            _replace(model, node, index)
    return model


def _is_foldable(index: GraphIndex, node: NodeProto) -> bool:
    constant = all(name in index.constants for name in node.input[1:])
    return constant and len(node.output) == 1 and len(index.shape(node.input[0])) == _MAP_RANK


def _replace(model: ModelProto, node: NodeProto, index: GraphIndex) -> None:
    """x × γ/√(variance + ε) + β − mean × γ/√(variance + ε), formed in float64."""
    gamma, beta, mean, variance = (index.constants[name].astype(np.float64) for name in node.input[1:])
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    weight, bias = f"{node.name}.scale", f"{node.name}.shift"
    _add(model, weight, scale.reshape(-1, 1, 1, 1))
    _add(model, bias, beta - mean * scale)
    node.CopyFrom(
        helper.make_node("Conv", [node.input[0], weight, bias], node.output, name=node.name, group=len(scale))
    )


def _add(model: ModelProto, name: str, value: NDArray[np.float64]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
