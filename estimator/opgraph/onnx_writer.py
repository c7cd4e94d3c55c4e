"""`OperatorGraph` → float ONNX model with random weights: what a runtime is given when a graph is to be measured.

`onnx_reader.operator_graph` reads the same graph back. Weights are drawn by the seed; latency does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...common.errors import UnsupportedError
from ...export.onnx_model import OPSET, check_model
from .graph import OperatorGraph, OperatorNode
from .operator import Kind, Operator, Shape, Window

_IR_VERSION = 10
_SAME_NAME = {
    Kind.RELU: "Relu", Kind.SIGMOID: "Sigmoid", Kind.TANH: "Tanh", Kind.HARD_SWISH: "HardSwish",
    Kind.HARD_SIGMOID: "HardSigmoid", Kind.LEAKY_RELU: "LeakyRelu", Kind.SOFTMAX: "Softmax",
    Kind.COPY: "Identity",
    Kind.ADD: "Add", Kind.MUL: "Mul", Kind.SUB: "Sub", Kind.DIV: "Div",
}  # fmt: skip
_DTYPE = "float32"


def to_model(graph: OperatorGraph, *, seed: int = 0) -> ModelProto:
    """The graph as an ONNX model; equal graphs and seeds give equal models.

    Raises:
        UnsupportedError: an operator whose kind says too little about what it does, or that is not float32.
    """
    writer = _Writer(np.random.default_rng(seed))
    for node in graph.nodes:
        writer.add(node)
    inputs = [_port(name, shape) for name, shape in graph.sources.items()]
    outputs = [_port(name, graph.shape(name)) for name in graph.outputs]
    body = helper.make_graph(writer.nodes, "main", inputs, outputs, list(writer.constants.values()))
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    check_model(model, where="written operator graph")
    return model


def single(operator: Operator) -> OperatorGraph:
    """The graph of one operator, for measuring it alone."""
    names = [f"x{number}" for number in range(len(operator.inputs))]
    node = OperatorNode("y", operator, tuple(names))
    return OperatorGraph.of([node], dict(zip(names, operator.inputs, strict=True)), ["y"])


class _Writer:
    """Appends nodes and the constants that they read."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._generator = generator

    def add(self, node: OperatorNode) -> None:
        """The operator of `node`, and its epilogue as operators of their own."""
        operator = node.operator
        if operator.dtype != _DTYPE:
            raise UnsupportedError(
                f"only float32 graphs become models, not {operator.dtype}", where=node.name,
                hint="write the float32 graph and quantise the model",
            )  # fmt: skip
        if operator.fused:
            raise UnsupportedError(
                f"a pass of {len(operator.fused) + 1} operators has no ONNX form", where=node.name,
                hint="write the graph as it was before `fuse`",
            )  # fmt: skip
        _rule(node)(self, node)

    def emit(self, op_type: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))

    def constant(self, name: str, value: NDArray) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def random(self, node: OperatorNode) -> tuple[str, ...]:
        """Its weights, scaled so that deep chains neither vanish nor overflow."""
        names = []
        for number, shape in enumerate(node.operator.weights):
            values = self._generator.standard_normal(shape, np.float32) / np.sqrt(max(1, prod(shape[1:])))
            names.append(self.constant(f"{node.name}.w{number}", values.astype(np.float32)))
        return tuple(names)


def _convolution(writer: _Writer, node: OperatorNode) -> None:
    operator = node.operator
    op_type = "ConvTranspose" if operator.kind == Kind.TRANSPOSED else "Conv"
    window = operator.window or Window()
    axes = len(operator.output) - 2
    if axes not in (1, 2) or (op_type == "ConvTranspose" and axes != 2):
        raise UnsupportedError(f"no window of {axes} axes can be written", where=node.name)
    inputs = (*node.inputs, *writer.random(node))
    settings = _window(window, axes)
    if operator.kind == Kind.TRANSPOSED:
        settings |= {"output_padding": _output_padding(operator, window)}
    writer.emit(op_type, inputs, node.name, group=window.groups, dilations=list(window.dilation[-axes:]), **settings)


def _output_padding(operator: Operator, window: Window) -> list[int]:
    """What the output has beyond the extents that follow from the window."""
    found = []
    for axis, (size, out) in enumerate(zip(operator.inputs[0][2:], operator.output[2:], strict=True)):
        span = (size - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1
        found.append(out - span + window.padding[axis] + window.padding[axis + 2])
    return found


def _pool(writer: _Writer, node: OperatorNode) -> None:
    window = node.operator.window or Window()
    op_type = "MaxPool" if node.operator.kind == Kind.MAX_POOL else "AveragePool"
    writer.emit(op_type, node.inputs, node.name, **_window(window, len(node.operator.output) - 2))


def _window(window: Window, axes: int) -> dict[str, list[int]]:
    top, left, bottom, right = window.padding
    pads = [top, left, bottom, right] if axes > 1 else [left, right]
    return {"kernel_shape": list(window.kernel[-axes:]), "strides": list(window.stride[-axes:]), "pads": pads}


def _linear(writer: _Writer, node: OperatorNode) -> None:
    """Gemm on vectors; a product with the transposed matrix on tokens, where ONNX has no bias."""
    operator = node.operator
    weights, *biases = writer.random(node)
    if len(operator.output) == 2:
        writer.emit("Gemm", (*node.inputs, weights, *biases), node.name, transB=1)
        return
    if biases:
        raise UnsupportedError("a linear operator on tokens has no bias in ONNX", where=node.name, hint="add it after")
    matrix = numpy_helper.to_array(writer.constants[weights])
    writer.emit("MatMul", (*node.inputs, writer.constant(weights, matrix.T.copy())), node.name)


def _clip(writer: _Writer, node: OperatorNode) -> None:
    bounds = [writer.constant(f"{node.name}.{end}", np.array(v, np.float32)) for end, v in (("low", 0), ("high", 6))]
    writer.emit("Clip", (*node.inputs, *bounds), node.name)


def _zero(writer: _Writer, node: OperatorNode) -> None:
    factor = writer.constant(f"{node.name}.factor", np.zeros((), np.float32))
    writer.emit("Mul", (*node.inputs, factor), node.name)


def _constant(writer: _Writer, node: OperatorNode) -> None:
    writer.constant(node.name, np.zeros(node.operator.output, np.float32))


def _normalisation(writer: _Writer, node: OperatorNode) -> None:
    scale_first = (np.ones(shape, np.float32) for shape in node.operator.weights)
    names = tuple(writer.constant(f"{node.name}.w{i}", value * (1 + i)) for i, value in enumerate(scale_first))
    op_type = "BatchNormalization" if node.operator.kind == Kind.BATCH_NORM else "LayerNormalization"
    writer.emit(op_type, (*node.inputs, *names), node.name)


def _concat(writer: _Writer, node: OperatorNode) -> None:
    first, output = node.operator.inputs[0], node.operator.output
    axes = [axis for axis, (a, b) in enumerate(zip(first, output, strict=True)) if a != b]
    writer.emit("Concat", node.inputs, node.name, axis=axes[0] if axes else 0)


def _reshape(writer: _Writer, node: OperatorNode) -> None:
    shape = writer.constant(f"{node.name}.shape", np.array(node.operator.output, np.int64))
    writer.emit("Reshape", (*node.inputs, shape), node.name)


def _elementwise(writer: _Writer, node: OperatorNode) -> None:
    """One operator under its own name; a sum or product of one tensor takes a scalar, or its weights, as the other."""
    inputs = (*node.inputs, *writer.random(node))
    if node.operator.kind in (Kind.ADD, Kind.MUL, Kind.SUB, Kind.DIV) and len(inputs) == 1:
        inputs = (*inputs, writer.constant(f"{node.name}.scalar", np.full((), 0.5, np.float32)))
    writer.emit(_SAME_NAME[Kind(node.operator.kind)], inputs, node.name)


def _global_pool(writer: _Writer, node: OperatorNode) -> None:
    """As torch's exporter writes it: runtimes may have another layout for GlobalAveragePool."""
    axes = writer.constant(f"{node.name}.axes", np.arange(2, len(node.operator.output), dtype=np.int64))
    writer.emit("ReduceMean", (*node.inputs, axes), node.name, keepdims=1)


def _matmul(writer: _Writer, node: OperatorNode) -> None:
    writer.emit("MatMul", (*node.inputs, *writer.random(node)), node.name)


_Rule: TypeAlias = Callable[[_Writer, OperatorNode], None]
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys((Kind.CONV, Kind.DEPTHWISE, Kind.GROUPED, Kind.TRANSPOSED), _convolution),
    **dict.fromkeys((Kind.MAX_POOL, Kind.AVERAGE_POOL), _pool),
    **dict.fromkeys((Kind.BATCH_NORM, Kind.LAYER_NORM), _normalisation),
    **dict.fromkeys(_SAME_NAME, _elementwise),
    Kind.LINEAR: _linear, Kind.MATMUL: _matmul, Kind.CLIP: _clip, Kind.ZERO: _zero, Kind.CONSTANT: _constant,
    Kind.CONCAT: _concat, Kind.RESHAPE: _reshape, Kind.GLOBAL_POOL: _global_pool,
}  # fmt: skip
WRITABLE = frozenset(_RULES)
"""Kinds that `to_model` writes."""


def _rule(node: OperatorNode) -> _Rule:
    if node.operator.kind not in _RULES:
        raise UnsupportedError(
            f"an operator of kind {node.operator.kind!r} cannot be written", where=node.name,
            hint=f"known: {', '.join(sorted(WRITABLE))}",
        )  # fmt: skip
    return _RULES[node.operator.kind]


def _port(name: str, shape: Shape) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
