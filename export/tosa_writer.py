"""Writes TOSA 1.0 flatbuffers, one operator at a time, through Arm's `tosa-tools`.

The writer keeps its own small record of operators and constants and hands them to the serialiser at the
end, so that values can be named after the fact and equal constants are stored once. Operator names,
operand order and attributes are those of the TOSA 1.0 specification, chapter 2.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from ..common.errors import ToolchainError

_HINT = "pip install --no-deps tosa-tools (its pinned dependencies are older than lanefit's, and not needed here)"
_STORED = {"INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT48": np.int64, "SHAPE": np.int64}


def tosa_package(name: str) -> ModuleType:
    """`tosa_serializer` or `tosa_reference_model`; `ToolchainError` where tosa-tools is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ToolchainError(f"{name} is not there: {error}", where="TOSA", hint=_HINT) from error


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor (or, with dtype SHAPE, a shape) of the TOSA graph; `dtype` is a name of the specification."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class _Operator:
    name: str
    attribute: tuple[object, ...]
    inputs: tuple[Value, ...]
    output: Value


class TosaWriter:
    """A TOSA graph under construction; values are handles, `serialise` gives the file."""

    def __init__(self) -> None:
        self._ts = tosa_package("tosa_serializer")
        self._inputs: list[Value] = []
        self._outputs: dict[str, str] = {}
        self._operators: list[_Operator] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Value] = {}

    def input(self, name: str, shape: Sequence[int], dtype: str) -> Value:
        self._inputs.append(Value(name, tuple(shape), dtype))
        return self._inputs[-1]

    def output(self, value: Value, name: str) -> None:
        """Makes `value` an output of the graph, under `name` and in the order of these calls."""
        if value in self._inputs or value.name in self._outputs:
            value = self.op("IDENTITY", [value], value.shape, value.dtype)
        self._outputs[value.name] = name

    def constant(self, values: ArrayLike, dtype: str) -> Value:
        array = np.ascontiguousarray(values, _STORED[dtype])
        key = (dtype, array.shape, array.tobytes())
        return self._constants.setdefault(key, Value(f"constant.{len(self._constants)}", array.shape, dtype))

    def shape(self, *sizes: int) -> Value:
        """The operand that RESHAPE, SLICE, TILE, PAD and RESIZE take in place of an attribute."""
        return self.constant(sizes, "SHAPE")

    def op(self, name: str, inputs: Sequence[Value], shape: Sequence[int], dtype: str, *attribute: object) -> Value:
        """Appends an operator with one result; `attribute` holds the serialiser's arguments, enums by name."""
        output = Value(f"value.{len(self._operators)}", tuple(shape), dtype)
        self._operators.append(_Operator(name, attribute, tuple(inputs), output))
        return output

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        return self.op("RESHAPE", [value, self.shape(*shape)], shape, value.dtype)

    def serialise(self) -> bytes:
        ts = self._ts
        graph = ts.TosaSerializer("", targetMajor=1, targetMinor=0, targetPatch=0, targetDraft=False)
        block = graph.currRegion.currBasicBlock
        for value in self._inputs:
            graph.addInputTensor(ts.TosaSerializerTensor(value.name, list(value.shape), self._dtype(value), data=None))
        for (dtype, shape, raw), value in self._constants.items():
            array = np.frombuffer(raw, _STORED[dtype]).reshape(shape)
            graph.addConst(list(shape), self._dtype(value), array, name=value.name)
        for operator in self._operators:
            output = self._named(operator.output)
            block.addTensor(output.name, list(output.shape), self._dtype(output))
            inputs = [self._named(value).name for value in operator.inputs]
            graph.addOperator(getattr(ts.Op, operator.name), inputs, [output.name], self._attribute(operator))
        for name in self._outputs.values():
            graph.addOutputTensor(block.tensors[name])
        return bytes(graph.serialize())

    def _attribute(self, operator: _Operator) -> object:
        found = self._ts.TosaSerializerAttribute()
        method = _ATTRIBUTES.get(operator.name) or operator.name.title().replace("_", "")
        getattr(found, f"{method}Attribute")(*(self._enum(argument) for argument in operator.attribute))
        return found

    def _enum(self, argument: object) -> object:
        """Enum members travel as 'Class.MEMBER'."""
        if not isinstance(argument, str):
            return argument
        kind, _, member = argument.partition(".")
        return getattr(getattr(self._ts, kind), member)

    def _dtype(self, value: Value) -> object:
        return getattr(self._ts.DType, value.dtype)

    def _named(self, value: Value) -> Value:
        return replace(value, name=self._outputs.get(value.name, value.name))


_ATTRIBUTES = {  # where the serialiser's method is not the operator's name in title case
    "MATMUL": "MatMul", "MAX_POOL2D": "MaxPool2d", "CONV2D": "Conv2d", "DEPTHWISE_CONV2D": "DepthwiseConv2d",
    "TRANSPOSE_CONV2D": "TransposeConv2d", "INTDIV": "IntDiv",
}  # fmt: skip
