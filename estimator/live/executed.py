"""The graph that a runtime executes, after its own optimiser: the unit of live measurement and prediction.

What a network costs is decided by the operators that run, not by those of the exported file: runtimes fold, fuse
and change layouts. An `ExecutedGraph` holds the optimised ONNX model together with every shape in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, helper

from ...common.errors import EstimatorError
from ...common.files import stable_hash

_DEFAULTS = {"auto_pad": "NOTSET", "ceil_mode": "0", "dilations": "1", "group": "1", "pads": "0", "strides": "1"}
_BITS = {"float16": 16, "bfloat16": 16, "int4": 4, "uint4": 4, "bool": 8, "string": 64}


@dataclass(frozen=True, slots=True)
class Value:
    """Shape and element type (NumPy's name) of a tensor; `constant` tensors are part of the model."""

    shape: tuple[int, ...]
    dtype: str
    constant: bool = False

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        bits = _BITS.get(self.dtype) or 8 * np.dtype(self.dtype).itemsize
        return (self.elements * bits + 7) // 8


@dataclass(frozen=True)
class ExecutedOperator:
    """One operator as executed: equal operators take equal time in equal surroundings.

    `kind` is the ONNX name with its domain where it has one ("com.microsoft.nchwc.Conv"); absent optional inputs
    are None. Attributes are those of the node, as texts.
    """

    kind: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    attributes: tuple[tuple[str, str], ...] = ()

    @cached_property
    def digest(self) -> str:
        return stable_hash(self.as_dict())

    def attribute(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.attributes if key == name), default)

    def integers(self, name: str) -> tuple[int, ...]:
        """An attribute of integers; empty where it is absent."""
        text = self.attribute(name)
        return tuple(int(part) for part in text.split(",")) if text else ()

    @property
    def weight_bytes(self) -> int:
        return sum(value.size_bytes for value in self.inputs if value is not None and value.constant)

    @property
    def input_bytes(self) -> int:
        return sum(value.size_bytes for value in self.inputs if value is not None and not value.constant)

    @property
    def output_bytes(self) -> int:
        return sum(value.size_bytes for value in self.outputs)

    def as_dict(self) -> dict[str, Any]:
        inputs = [None if v is None else [list(v.shape), v.dtype, v.constant] for v in self.inputs]
        outputs = [[list(v.shape), v.dtype] for v in self.outputs]
        return {
            "kind": self.kind,
            "inputs": inputs,
            "outputs": outputs,
            "attributes": [list(a) for a in self.attributes],
        }


def operator_from_dict(value: Mapping[str, Any]) -> ExecutedOperator:
    """The inverse of `ExecutedOperator.as_dict`; a malformed value raises `EstimatorError`."""
    try:
        return ExecutedOperator(
            str(value["kind"]),
            tuple(None if v is None else Value(tuple(map(int, v[0])), str(v[1]), bool(v[2])) for v in value["inputs"]),
            tuple(Value(tuple(map(int, v[0])), str(v[1])) for v in value["outputs"]),
            tuple((str(name), str(text)) for name, text in value["attributes"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise EstimatorError(f"malformed operator: {error}", hint="measure it again") from error


@dataclass(frozen=True, slots=True)
class ExecutedNode:
    """An operator in its place; `inputs` and `outputs` name tensors, absent ones are ""."""

    name: str
    operator: ExecutedOperator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class ExecutedGraph:
    """`nodes` in execution order, `model` the ONNX model that runs without further optimisation."""

    model: ModelProto
    nodes: tuple[ExecutedNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value] = field(repr=False)

    @cached_property
    def users(self) -> dict[str, tuple[int, ...]]:
        """Positions of the nodes that read each tensor."""
        found: dict[str, list[int]] = {}
        for position, node in enumerate(self.nodes):
            for name in set(node.inputs) - {""}:
                found.setdefault(name, []).append(position)
        return {name: tuple(positions) for name, positions in found.items()}


def executed_graph(model: ModelProto, shapes: Mapping[str, Value]) -> ExecutedGraph:
    """The graph of an optimised model; `shapes` must know every tensor that is not a constant."""
    graph = model.graph
    constants = {t.name: Value(tuple(t.dims), _dtype(t.data_type), True) for t in graph.initializer}
    values = {**shapes, **constants}
    nodes = tuple(_node(node, values) for node in graph.node)
    inputs = tuple(i.name for i in graph.input if i.name not in constants)
    return ExecutedGraph(model, nodes, inputs, tuple(o.name for o in graph.output), values)


def _node(node: NodeProto, values: Mapping[str, Value]) -> ExecutedNode:
    kind = ".".join(part for part in (node.domain if node.domain != "ai.onnx" else "", node.op_type) if part)
    named = [name for name in (*node.input, *node.output) if name]
    if lost := [name for name in named if name not in values]:
        raise EstimatorError(f"the shape of tensor {lost[0]!r} is unknown", where=f"{kind} {node.name!r}")
    inputs = tuple(values[name] if name else None for name in node.input)
    outputs = tuple(values[name] for name in node.output if name)
    operator = ExecutedOperator(kind, inputs, outputs, _attributes(node.attribute))
    return ExecutedNode(node.name, operator, tuple(node.input), tuple(node.output))


def _attributes(attributes: Sequence[AttributeProto]) -> tuple[tuple[str, str], ...]:
    """Attributes by name; those that say what holds without them are left out, as exporters differ in writing them."""
    found = sorted((a.name, _text(a)) for a in attributes)
    return tuple((name, text) for name, text in found if set(text.split(",")) != {_DEFAULTS.get(name)})


def _text(attribute: AttributeProto) -> str:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Sequence) and all(isinstance(v, int | float) for v in value):
        return ",".join(map(repr, value))
    return hashlib.sha256(attribute.SerializeToString(deterministic=True)).hexdigest()[:16]


def _dtype(data_type: int) -> str:
    return np.dtype(helper.tensor_dtype_to_np_dtype(data_type)).name
