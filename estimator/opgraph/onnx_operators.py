"""ONNX node → `Operator`: one small rule for each kind whose cost depends on more than its shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from ...common.errors import ModelError
from ...export.onnx_model import attribute
from .operator import Kind, Operator, Shape, Window, convolution_kind

_KINDS = {
    "Relu": Kind.RELU, "Clip": Kind.CLIP, "Sigmoid": Kind.SIGMOID, "Tanh": Kind.TANH, "Gelu": Kind.GELU,
    "HardSwish": Kind.HARD_SWISH, "HardSigmoid": Kind.HARD_SIGMOID, "LeakyRelu": Kind.LEAKY_RELU,
    "Add": Kind.ADD, "Sum": Kind.ADD, "Mul": Kind.MUL, "Sub": Kind.SUB, "Div": Kind.DIV,
    "GlobalAveragePool": Kind.GLOBAL_POOL, "GlobalMaxPool": Kind.GLOBAL_POOL,
    "BatchNormalization": Kind.BATCH_NORM, "LayerNormalization": Kind.LAYER_NORM,
    "GroupNormalization": Kind.GROUP_NORM, "InstanceNormalization": Kind.GROUP_NORM,
    "Softmax": Kind.SOFTMAX, "LogSoftmax": Kind.SOFTMAX,
    "Concat": Kind.CONCAT, "Slice": Kind.SLICE, "Split": Kind.SLICE, "Pad": Kind.PAD, "Gather": Kind.GATHER,
    "Transpose": Kind.TRANSPOSE, "DepthToSpace": Kind.TRANSPOSE, "SpaceToDepth": Kind.TRANSPOSE,
    "Reshape": Kind.RESHAPE, "Flatten": Kind.RESHAPE, "Squeeze": Kind.RESHAPE, "Unsqueeze": Kind.RESHAPE,
    "Expand": Kind.COPY, "Tile": Kind.COPY, "Cast": Kind.COPY, "Identity": Kind.COPY,
    "Resize": Kind.RESIZE, "Upsample": Kind.RESIZE,
    "ReduceMean": Kind.REDUCE, "ReduceSum": Kind.REDUCE, "ReduceMax": Kind.REDUCE, "ReduceMin": Kind.REDUCE,
    "ReduceProd": Kind.REDUCE, "ReduceL2": Kind.REDUCE,
    "QuantizeLinear": Kind.QUANTISE, "DequantizeLinear": Kind.DEQUANTISE,
}  # fmt: skip


def kind_of_name(op_type: str) -> str:
    """The kind of an ONNX operator that its name decides; any other keeps its name."""
    return str(_KINDS.get(op_type, op_type))


_PARAMETERS_ONLY = frozenset({"Clip", "Pad", "Resize", "Upsample", "QuantizeLinear", "DequantizeLinear"})
_MAP_RANK = 4


@dataclass(frozen=True, slots=True)
class Operands:
    """What a node reads and writes, constants apart: `constants` by position in the node's inputs."""

    inputs: tuple[Shape, ...]
    output: Shape
    constants: dict[int, NDArray]
    dtype: str


def to_operator(node: NodeProto, operands: Operands) -> Operator:
    """The operator of `node`; one without a rule keeps its ONNX name as its kind."""
    if node.domain not in ("", "ai.onnx"):
        return _plain(node, operands)
    if _multiplies_by_zero(node, operands):
        return Operator(Kind.ZERO, operands.inputs, operands.output, dtype=operands.dtype)
    return _RULES.get(node.op_type, _plain)(node, operands)


def _plain(node: NodeProto, operands: Operands) -> Operator:
    """Inputs as they are; constants that hold more than one real number are weights."""
    kind = _KINDS.get(node.op_type, node.op_type) if node.domain in ("", "ai.onnx") else node.op_type
    weights = () if node.op_type in _PARAMETERS_ONLY else _weights(operands)
    return Operator(kind, operands.inputs, operands.output, weights=weights, dtype=operands.dtype)


def _weights(operands: Operands) -> tuple[Shape, ...]:
    """Shapes of the constants that are data: real or stored numbers, not axes or extents."""
    held = (operands.constants[position] for position in sorted(operands.constants))
    return tuple(value.shape for value in held if value.size > 1 and value.dtype not in (np.int64, np.int32, np.bool_))


def _multiplies_by_zero(node: NodeProto, operands: Operands) -> bool:
    factors = operands.constants.values()
    return node.op_type == "Mul" and len(operands.inputs) == 1 and any(not np.any(value) for value in factors)


def _convolution(node: NodeProto, operands: Operands) -> Operator:
    weights = operands.constants.get(1)
    if weights is None:  # a convolution by computed weights is nothing that a device's kernel library has
        return Operator(node.op_type, operands.inputs, operands.output, dtype=operands.dtype)
    groups, channels = attribute(node, "group", 1), operands.inputs[0][1]
    shapes = (weights.shape, *(operands.constants[n].shape for n in (2,) if n in operands.constants))
    window = _window(node, weights.shape[2:], operands.inputs[0][2:], groups)
    kind = Kind.TRANSPOSED if node.op_type == "ConvTranspose" else convolution_kind(groups, channels)
    return Operator(kind, operands.inputs, operands.output, window, shapes, operands.dtype)


def _pool(node: NodeProto, operands: Operands) -> Operator:
    kind = Kind.MAX_POOL if node.op_type == "MaxPool" else Kind.AVERAGE_POOL
    window = _window(node, attribute(node, "kernel_shape"), operands.inputs[0][2:])
    return Operator(kind, operands.inputs, operands.output, window, dtype=operands.dtype)


def _linear(node: NodeProto, operands: Operands) -> Operator:
    """Products with one constant matrix are linear operators, all others products of two activations."""
    matrix = operands.constants.get(1)
    if node.op_type == "Gemm" and matrix is not None:
        shape = matrix.shape if attribute(node, "transB", 0) else matrix.shape[::-1]
        biases = tuple(operands.constants[2].reshape(-1).shape for n in (2,) if n in operands.constants)
        return Operator(Kind.LINEAR, operands.inputs, operands.output, weights=(shape, *biases), dtype=operands.dtype)
    if node.op_type == "MatMul" and matrix is not None and matrix.ndim == 2:
        weights = (matrix.shape[::-1],)
        return Operator(Kind.LINEAR, operands.inputs, operands.output, weights=weights, dtype=operands.dtype)
    first = operands.constants.get(0)
    if node.op_type == "MatMul" and first is not None and first.ndim == 2:
        return Operator(Kind.LINEAR, operands.inputs, operands.output, weights=(first.shape,), dtype=operands.dtype)
    return replace(_plain(node, operands), kind=Kind.MATMUL)


def _reduction(node: NodeProto, operands: Operands) -> Operator:
    """A mean over height and width of a map is global pooling, whatever the exporter called it."""
    source, target = operands.inputs[0], operands.output
    over_map = len(source) == _MAP_RANK and target[:2] == source[:2] and set(target[2:]) <= {1}
    whole = node.op_type == "ReduceMean" and over_map and source[2:] != (1, 1)
    return replace(_plain(node, operands), kind=Kind.GLOBAL_POOL if whole else Kind.REDUCE)


def _window(node: NodeProto, kernel: Sequence[int], extent: Shape, groups: int = 1) -> Window:
    """The last two axes of the window; a one-dimensional one has height 1."""
    axes = len(kernel)
    strides, dilations = (list(attribute(node, name) or [1] * axes) for name in ("strides", "dilations"))
    begins, ends = _padding(node, kernel, extent, strides, dilations)
    height, width = (max(0, axes - 2), axes - 1) if axes > 1 else (None, 0)

    def pair(values: Sequence[int], missing: int) -> tuple[int, int]:
        return (missing if height is None else int(values[height]), int(values[width]))

    (top, left), (bottom, right) = pair(begins, 0), pair(ends, 0)
    return Window(pair(kernel, 1), pair(strides, 1), pair(dilations, 1), (top, left, bottom, right), groups)


def _padding(
    node: NodeProto, kernel: Sequence[int], extent: Shape, strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Explicit pads, or those that `auto_pad` stands for."""
    axes, mode = len(kernel), attribute(node, "auto_pad", "NOTSET")
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        pads = list(attribute(node, "pads") or [0] * (2 * axes)) if mode == "NOTSET" else [0] * (2 * axes)
        return pads[:axes], pads[axes:]
    totals = [
        max(0, (-(-size // step) - 1) * step + (taps - 1) * dilation + 1 - size)
        for size, step, taps, dilation in zip(extent, strides, kernel, dilations, strict=True)
    ]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


_Rule: TypeAlias = Callable[[NodeProto, Operands], Operator]
_RULES: dict[str, _Rule] = {
    "Conv": _convolution, "ConvTranspose": _convolution, "MaxPool": _pool, "AveragePool": _pool,
    "Gemm": _linear, "MatMul": _linear,
    "ReduceMean": _reduction, "ReduceSum": _reduction, "ReduceMax": _reduction, "ReduceMin": _reduction,
}  # fmt: skip


def element_type(dtype: np.dtype | None, tensor: str) -> str:
    """The NumPy name of a tensor's element type; `ModelError` when inference found none."""
    if dtype is None:
        raise ModelError(f"the element type of {tensor!r} is unknown", hint="run ONNX shape inference on the model")
    return str(dtype)
