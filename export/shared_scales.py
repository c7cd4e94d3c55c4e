"""One scale for what is concatenated, so that operands can be written in place."""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from .onnx_model import DEQUANTISE, QUANTISE, GraphIndex, copy_of

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
