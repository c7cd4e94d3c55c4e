"""Weights of the convolutions and fully connected layers of a `.tflite` file, read from its flatbuffer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lanefit.common.errors import InputError
from lanefit.export.graph import Constants, ConvConstants, Graph
from lanefit.kernels.ops import Conv2d

# Field numbers of the tables in TensorFlow Lite's schema.fbs (version 3).
_MODEL_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS = 1, 2, 4
_GRAPH_TENSORS, _GRAPH_OPERATORS = 0, 3
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER = 0, 1, 2
_OPERATOR_CODE, _OPERATOR_INPUTS = 0, 1
_CODE_DEPRECATED, _CODE_BUILTIN = 0, 3
_CONV, _DEPTHWISE, _FULLY_CONNECTED = 3, 4, 9
_INT8 = 9


@dataclass(frozen=True, slots=True)
class _Table:
    """A flatbuffer table: fields by number, through the table of offsets in front of it."""

    data: bytes
    start: int

    def _field(self, number: int) -> int:
        """Position of a field, 0 when it is absent."""
        offsets = self.start - struct.unpack_from("<i", self.data, self.start)[0]
        (size,) = struct.unpack_from("<H", self.data, offsets)
        if 4 + 2 * number >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, offsets + 4 + 2 * number)
        return self.start + offset if offset else 0

    def integer(self, number: int, kind: str = "<i") -> int:
        position = self._field(number)
        return struct.unpack_from(kind, self.data, position)[0] if position else 0

    def vector(self, number: int) -> tuple[int, int]:
        """Position of the first element, and how many there are."""
        position = self._field(number)
        if not position:
            return 0, 0
        begin = position + struct.unpack_from("<I", self.data, position)[0]
        return begin + 4, struct.unpack_from("<I", self.data, begin)[0]

    def integers(self, number: int) -> tuple[int, ...]:
        begin, count = self.vector(number)
        return struct.unpack_from(f"<{count}i", self.data, begin)

    def tables(self, number: int) -> list[_Table]:
        begin, count = self.vector(number)
        starts = (begin + 4 * i for i in range(count))
        return [_Table(self.data, at + struct.unpack_from("<I", self.data, at)[0]) for at in starts]


def read_weights(path: Path) -> list[NDArray[np.int8]]:
    """int8 weights [output channel][row][column][input channel] (depthwise: last axis 1) in execution order."""
    data = path.read_bytes()
    try:
        return list(_weights(_Table(data, struct.unpack_from("<I", data)[0])))
    except (struct.error, IndexError, ValueError) as error:
        raise InputError(f"not a TensorFlow Lite model: {error}", where=str(path)) from error


def _weights(model: _Table) -> Iterator[NDArray[np.int8]]:
    codes = [max(t.integer(_CODE_BUILTIN), t.integer(_CODE_DEPRECATED, "<b")) for t in model.tables(_MODEL_CODES)]
    buffers = model.tables(_MODEL_BUFFERS)
    graph = model.tables(_MODEL_SUBGRAPHS)[0]
    tensors = graph.tables(_GRAPH_TENSORS)
    for operator in graph.tables(_GRAPH_OPERATORS):
        code = codes[operator.integer(_OPERATOR_CODE, "<I")]
        if code not in (_CONV, _DEPTHWISE, _FULLY_CONNECTED):
            continue
        tensor = tensors[operator.integers(_OPERATOR_INPUTS)[1]]
        if tensor.integer(_TENSOR_TYPE, "<b") != _INT8:
            continue
        begin, count = buffers[tensor.integer(_TENSOR_BUFFER, "<I")].vector(0)
        values = np.frombuffer(model.data, np.int8, count, begin).reshape(tensor.integers(_TENSOR_SHAPE))
        if code == _FULLY_CONNECTED:
            values = values.reshape(len(values), 1, 1, -1)
        yield values.transpose(3, 1, 2, 0) if code == _DEPTHWISE else values


def with_weights(graph: Graph, weights: list[NDArray[np.int8]], seed: int) -> Graph:
    """The graph with these weights in order, as far as shapes agree; others are random, without zeros."""
    rng, left = np.random.default_rng(seed), list(weights)
    constants: dict[str, Constants] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Conv2d):
            continue
        blank = graph.constants[node.name]
        assert isinstance(blank, ConvConstants)
        if left and left[0].shape == blank.weights.shape:
            found = left.pop(0)
        else:
            found = rng.integers(1, 128, blank.weights.shape).astype(np.int8)
        constants[node.name] = replace(blank, weights=found)
    return replace(graph, constants=constants)
