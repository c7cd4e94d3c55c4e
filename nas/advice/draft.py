"""`Draft`: a float ONNX model under change. Rules edit it; `finish` gives a checked model with its new shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from ...common.errors import ModelError
from ...export.onnx_model import GraphIndex, attribute, check_model, copy_of, with_static_shapes
from ...export.quantise import is_quantised, topological

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ConvFacts:
    """A convolution of maps. `weight` [output][input per group][row][column]; pads are top, left, bottom, right."""

    weight: Array
    bias: Array
    groups: int
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]

    @property
    def window(self) -> tuple[int, int]:
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def is_pointwise(self) -> bool:
        """A 1×1 convolution over all channels that keeps the map."""
        return self.groups == 1 and self.window == (1, 1) and self.strides == (1, 1) and not any(self.pads)

    @property
    def is_depthwise(self) -> bool:
        """One output channel for each input channel, and more than one of them."""
        return self.groups > 1 and self.groups == self.weight.shape[0] and self.weight.shape[1] == 1


class Draft:
    """Nodes in order and constants by name; shapes are those of the model before any change."""

    def __init__(self, model: ModelProto) -> None:
        """`model` as `onnx_export.simplify` leaves it. Raises `ModelError` for one that is quantised already."""
        if is_quantised(model):
            raise ModelError(
                "advice changes layers, and this model is quantised already", where=model.graph.name,
                hint="give the float model that it was made from",
            )  # fmt: skip
        self._model = copy_of(model)
        self.index = GraphIndex(self._model)
        self.nodes: dict[str, NodeProto] = {node.name: node for node in self._model.graph.node}
        self.constants = dict(self.index.constants)

    def conv(self, node: NodeProto) -> ConvFacts | None:
        """What is known of a convolution of maps with constant weights; None for any other node."""
        if node.op_type != "Conv" or node.input[1] not in self.constants or self.constants[node.input[1]].ndim != 4:
            return None
        weight = self.constants[node.input[1]]
        biased = len(node.input) > 2 and node.input[2]
        if biased and node.input[2] not in self.constants:
            return None
        strides = _pair(attribute(node, "strides", (1, 1)))
        dilations = _pair(attribute(node, "dilations", (1, 1)))
        bias = self.constants[node.input[2]] if biased else np.zeros(len(weight), np.float32)
        pads = self._pads(node, weight.shape, strides, dilations)
        return ConvFacts(weight, bias, attribute(node, "group", 1), strides, pads, dilations)

    def set_conv(self, node: NodeProto, facts: ConvFacts) -> None:
        """Makes `node` this convolution."""
        self.set_constant(node, 1, facts.weight)
        self.set_constant(node, 2, facts.bias)
        values: dict[str, Any] = {
            "group": facts.groups, "strides": facts.strides, "pads": facts.pads, "dilations": facts.dilations,
            "kernel_shape": facts.window,
        }  # fmt: skip
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(name, value) for name, value in values.items())

    def set_constant(self, node: NodeProto, place: int, value: NDArray[Any]) -> None:
        """Gives `node` a constant operand of its own: others that read the old one keep it."""
        name = f"{node.name}.operand{place}"
        while name in self.constants and self._readers(name) not in ([], [node.name]):
            name += "_"
        self.constants[name] = value
        while len(node.input) <= place:
            node.input.append("")
        node.input[place] = name

    def reroute(self, tensor: str, source: str) -> None:
        """Whoever reads `tensor` reads `source` instead."""
        for node in self.nodes.values():
            node.input[:] = [source if name == tensor else name for name in node.input]

    def replace(self, old: Sequence[NodeProto], new: NodeProto) -> None:
        """`new` stands for the nodes `old`, of which the last gave its output."""
        for node in old:
            del self.nodes[node.name]
        self.nodes[new.name] = new

    def reader(self, tensor: str) -> NodeProto | None:
        """The only node that reads `tensor`; None where there are more or the model returns it."""
        names = self._readers(tensor)
        return self.nodes[names[0]] if len(names) == 1 and tensor not in self.index.outputs else None

    def maker(self, tensor: str) -> NodeProto | None:
        return next((node for node in self.nodes.values() if tensor in node.output), None)

    def set_input_size(self, height: int, width: int) -> None:
        """Another height and width of the only input."""
        dims = self._model.graph.input[0].type.tensor_type.shape.dim
        dims[2].dim_value, dims[3].dim_value = height, width

    def finish(self) -> ModelProto:
        """The changed model without dead nodes and constants. `ModelError` when its shapes do not fit together."""
        graph = self._model.graph
        ordered = [copy_of_node(n) for n in topological(list(self.nodes.values()), self.index.outputs)]
        used = {name for node in ordered for name in node.input}
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(ordered)
        graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in self.constants.items()
            if name in used
        )
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
        found = with_static_shapes(self._model)
        check_model(found, where="after advice")
        return found

    def _readers(self, tensor: str) -> list[str]:
        return [node.name for node in self.nodes.values() if tensor in node.input]

    def _pads(
        self, node: NodeProto, weight: tuple[int, ...], strides: tuple[int, int], dilations: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        auto = attribute(node, "auto_pad", "NOTSET")
        if auto not in ("SAME_UPPER", "SAME_LOWER"):
            top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0)) if auto == "NOTSET" else (0, 0, 0, 0)
            return top, left, bottom, right
        sizes = self.index.shape(node.input[0])[2:]
        total = [
            max(0, (-(-size // step) - 1) * step + (taps - 1) * gap + 1 - size)
            for size, taps, step, gap in zip(sizes, weight[2:], strides, dilations, strict=True)
        ]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        (top, left), (bottom, right) = (less, more) if auto == "SAME_UPPER" else (more, less)
        return top, left, bottom, right


def multiply_accumulates(model: ModelProto) -> int:
    """Products that convolutions and matrix products with constant weights sum up, for one input."""
    index = GraphIndex(model)
    total = 0
    for node in index.nodes:
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in index.constants:
            weights, output = index.constants[node.input[1]], index.shape(node.output[0])
            # a convolution uses each weight once at each position, a matrix once for each row
            total += weights.size * (prod(output[2:]) if node.op_type == "Conv" else prod(output[:-1]))
    return total


def copy_of_node(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied


def _pair(values: Sequence[int]) -> tuple[int, int]:
    rows, columns = values
    return int(rows), int(columns)
