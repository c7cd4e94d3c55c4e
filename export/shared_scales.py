"""One scale for what is concatenated, so that operands can be written in place, and scales that take factors over."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from .onnx_model import DEQUANTISE, QUANTISE, GraphIndex, copy_of
from .operands import factor_between

# Results that keep the scale of their operand: another one would take a requantisation of its own.
_KEEPS_SCALE = frozenset({"MaxPool", "Resize", "Transpose", "Slice", "Split", "Reshape", "Flatten", "Squeeze", "Pad"})


def with_shared_scales(model: ModelProto) -> ModelProto:
    """Operands of a concatenation take over its scale and zero point, as its range covers theirs.

    A concatenation of concatenations gives its scale to all. What the model's input or an operator without arithmetic
    produces keeps its own; such an operand is requantised on its way.
    """
    model = copy_of(model)
    index = GraphIndex(model)
    for node in reversed(index.nodes):
        ends = [reader for reader in index.consumers[node.output[0]] if reader.op_type == QUANTISE]
        if node.op_type == "Concat" and len(ends) == 1:
            for name in node.input:
                _take_over(index, name, ends[0])
    return model


def _take_over(index: GraphIndex, name: str, result: NodeProto) -> None:
    dequantise = index.producer.get(name)
    quantise = index.producer.get(dequantise.input[0]) if dequantise is not None else None
    if dequantise is None or quantise is None or dequantise.op_type != DEQUANTISE or quantise.op_type != QUANTISE:
        return
    source = index.producer.get(quantise.input[0])
    readers = index.consumers[quantise.output[0]]
    if source is None or source.op_type in _KEEPS_SCALE or any(r.op_type != DEQUANTISE for r in readers):
        return
    for end in (quantise, *readers):
        end.input[1:] = result.input[1:]


def with_scaled_factors(model: ModelProto) -> ModelProto:
    """A stored tensor times a positive scalar gets the scale of the tensor times that scalar, and its zero point: the
    stored integers are then the same, and the factor, such as that of attention's scores, costs nothing."""
    model = copy_of(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    index = GraphIndex(model)
    for node in index.nodes:
        found = factor_between(index, node)
        if found is None:
            continue
        source, ratio = found
        scale, zero = (index.constants[name] for name in source.input[1:3])
        scaled = (scale.astype(np.float64) * ratio).astype(np.float32)
        if node.input[1] in source.input or not np.isfinite(scaled).all() or not scaled.all():
            continue
        for name, value in ((node.input[1], scaled), (node.input[2], zero)):
            constants[name].CopyFrom(numpy_helper.from_array(value, name))
            index.constants[name] = value
    return model
