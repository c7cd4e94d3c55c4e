"""ONNX models as checked values: loading, static shapes, stable bytes, and an index of the graph by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from ..common.errors import InputError, ModelError
from .graph import Quantisation

MAX_MODEL_BYTES = 2**31 - 1  # protobuf's own limit for one message
OPSET = 18
QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"


def load_model(path: Path) -> ModelProto:
    """The checked model in `path`. Anything that is not one self-contained ONNX file raises `ModelError`."""
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"{path.name} has {size} bytes, ONNX allows {MAX_MODEL_BYTES}", where=str(path))
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    return parse_model(data, where=str(path))


def parse_model(data: bytes, *, where: str) -> ModelProto:
    """The checked model in `data`; see `load_model`."""
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError("not an ONNX file, or a damaged one", where=where, hint="export the model again") from error
    if not model.graph.node:
        raise ModelError("the file holds no operators", where=where, hint="is it an ONNX model at all?")
    outside = [t.name for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    if outside:
        hint = "save the model as one file, without external data"
        raise ModelError(f"weights such as {outside[0]!r} lie in another file", where=where, hint=hint)
    check_model(model, where=where)
    _check_payload(model, where)
    return model


def _check_payload(model: ModelProto, where: str) -> None:
    """What the ONNX checker leaves open: names are text, and every constant has as many bytes as its shape says."""
    try:
        for node in model.graph.node:
            "".join((node.name, node.op_type, node.domain, *node.input, *node.output)).encode()
        for tensor in model.graph.initializer:
            numpy_helper.to_array(tensor)
    except (UnicodeError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"damaged ONNX file: {error}", where=where, hint="export the model again") from error


def check_model(model: ModelProto, *, where: str) -> None:
    """Raises `ModelError` with the ONNX checker's first sentence when `model` is not valid ONNX."""
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"not valid ONNX: {str(error).strip().splitlines()[0]}", where=where) from error


def model_bytes(model: ModelProto) -> bytes:
    """Serialised form with map fields in a fixed order: equal models give equal bytes in every process."""
    return model.SerializeToString(deterministic=True)


def with_static_shapes(model: ModelProto, input_shape: tuple[int, ...] | None = None) -> ModelProto:
    """A copy with every shape inferred; `input_shape` replaces the dimensions of the only input.

    Dynamic dimensions and batches other than 1 raise `ModelError`.
    """
    model = copy_of(model)
    if input_shape is not None:
        _fix_input(model, input_shape)
        del model.graph.value_info[:]
    for value in model.graph.input:
        _check_static(value)
    try:
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (shape_inference.InferenceError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ModelError(f"shapes do not fit together: {text[:300]}") from error
    for value in inferred.graph.output:
        if any(not d.HasField("dim_value") for d in value.type.tensor_type.shape.dim):
            raise ModelError(f"output {value.name!r} has a dynamic shape", hint="export the model with static shapes")
    return inferred


def copy_of(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _fix_input(model: ModelProto, shape: tuple[int, ...]) -> None:
    if len(model.graph.input) != 1:
        raise ModelError(
            "a shape can be given only for a model with one input", where=f"{len(model.graph.input)} inputs"
        )
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if len(dims) != len(shape):
        raise ModelError(f"the input has {len(dims)} dimensions, the given shape {shape} has {len(shape)}")
    for dim, extent in zip(dims, shape, strict=True):
        if dim.HasField("dim_value") and dim.dim_value not in (extent, 0):
            raise ModelError(f"the input has {dim.dim_value} where the given shape {shape} says {extent}")
        dim.dim_value = extent
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _check_static(value: onnx.ValueInfoProto) -> None:
    dims = value.type.tensor_type.shape.dim
    shown = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims]
    where = f"input {value.name!r}"
    if any(not d.HasField("dim_value") or d.dim_value < 1 for d in dims):
        hint = "export with static shapes, or give the input shape, for example 1x3x224x224"
        raise ModelError(f"dynamic or empty shape {shown}", where=where, hint=hint)
    if len(dims) > 1 and dims[0].dim_value != 1:
        hint = "export with batch 1; the engine runs one sample at a time"
        raise ModelError(f"batch {dims[0].dim_value} in shape {shown}", where=where, hint=hint)


@dataclass(frozen=True, slots=True)
class QuantParams:
    """Constant scale and zero point of a QuantizeLinear or DequantizeLinear."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.integer]
    axis: int

    @property
    def per_tensor(self) -> bool:
        return self.scale.size == 1

    @property
    def dtype(self) -> np.dtype:
        return self.zero_point.dtype

    def as_tensor(self) -> Quantisation:
        return Quantisation(float(self.scale.reshape(-1)[0]), int(self.zero_point.reshape(-1)[0]))


class GraphIndex:
    """A model by name: constants, producers, consumers, shapes. Node names must be unique (see `normalise`)."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.model = model
        self.nodes: list[NodeProto] = list(graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.inputs = [v.name for v in graph.input if v.name not in self.constants]
        self.outputs = [v.name for v in graph.output]
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: defaultdict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                if name:
                    self.consumers[name].append(node)
        typed = [*graph.input, *graph.value_info, *graph.output]
        self.types = {v.name: v.type.tensor_type for v in typed}

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Static shape with the batch axis; `ModelError` when inference could not find it."""
        if tensor in self.constants:
            return self.constants[tensor].shape
        if tensor not in self.types or any(not d.HasField("dim_value") for d in self.types[tensor].shape.dim):
            raise ModelError(f"the shape of {tensor!r} is not static", hint="export the model with static shapes")
        return tuple(d.dim_value for d in self.types[tensor].shape.dim)

    def dtype(self, tensor: str) -> np.dtype | None:
        if tensor in self.constants:
            return self.constants[tensor].dtype
        return np.dtype(helper.tensor_dtype_to_np_dtype(self.types[tensor].elem_type)) if tensor in self.types else None

    def params(self, node: NodeProto) -> QuantParams | None:
        """Parameters of a quantise or dequantise node; None when they are computed at run time or contradict."""
        scale = self.constants.get(node.input[1])
        if scale is None or scale.dtype != np.float32:
            return None
        if len(node.input) > 2 and node.input[2]:
            zero = self.constants.get(node.input[2])
        else:
            kind = self.dtype(node.input[0]) if node.op_type == DEQUANTISE else np.dtype(np.uint8)
            zero = np.zeros(scale.shape, kind)
        if zero is None or zero.size != scale.size or max(zero.ndim, scale.ndim) > 1:
            return None
        return QuantParams(scale, zero, attribute(node, "axis", 1))

    def is_leaf(self, tensor: str) -> bool:
        """Nobody but at most one operator reads the tensor, and it is no output of the model."""
        return tensor not in self.outputs and len(self.consumers[tensor]) == 1


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute, text decoded, or `default`."""
    for item in node.attribute:
        if item.name == name:
            value = helper.get_attribute_value(item)
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return default


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, in order, with `_2`, `_3` ... appended where one occurs again."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        result.append(candidate)
    return result


def live_nodes(nodes: list[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """The nodes that some output depends on, in the given order, which must be topological."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(n for n in node.input if n)
    return kept[::-1]
