"""How stored tensors of any rank lie in the engine's maps, and what an operator reads through operators that only move
elements: reshapes, transpositions, slices, and factors that a scale can take over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from ..kernels.ops import Shape
from .onnx_model import DEQUANTISE, QUANTISE, GraphIndex, attribute
from .patterns import constant

VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
LINKS = VIEWS | {"Transpose", "Slice", "Gather"}  # of stored tensors
_MATRICES = frozenset({"LayerNormalization", "MatMul"})
_ELEMENTWISE = frozenset({"Relu", "Clip", "Add", "Sub", "Mul", "Concat", "Slice", "Pad"})
_CLOSE = 1e-6


@dataclass(frozen=True, slots=True)
class Layout:
    """A map (rows, columns, channels) and whether the channels come last in the host's order too."""

    shape: Shape
    channels_last: bool = False

    def place(self, array: NDArray) -> NDArray:
        """An array in the host's order, as the map."""
        height, width, channels = self.shape
        if self.channels_last:
            return array.reshape(self.shape)
        return array.reshape(channels, height, width).transpose(1, 2, 0)

    def unplace(self, array: NDArray, shape: tuple[int, ...]) -> NDArray:
        """The inverse of `place`."""
        return (array if self.channels_last else array.transpose(2, 0, 1)).reshape(shape)

    def axis(self, axis: int, rank: int) -> int | None:
        """Axis of the map for an axis of the host's tensor; the batch has none."""
        orders = {2: (2,), 3: (0, 2), 4: (0, 1, 2) if self.channels_last else (2, 0, 1)}
        return None if axis % rank == 0 or rank not in orders else orders[rank][axis % rank - 1]


def layout(shape: tuple[int, ...], *, channels_last: bool = False) -> Layout | None:
    """The map of a vector (1, C), of tokens (1, N, C), of a map (1, C, H, W) or, with `channels_last`, of matrices
    (1, G, M, N); None for any other rank."""
    match len(shape):
        case 2:
            return Layout((1, 1, shape[1]))
        case 3:
            return Layout((shape[1], 1, shape[2]), channels_last=True)
        case 4:
            _, a, b, c = shape
            return Layout((a, b, c), True) if channels_last else Layout((b, c, a))
        case _:
            return None


class Layouts:
    """The layouts of the stored tensors of a model, found from the operators that make and read them."""

    def __init__(self, index: GraphIndex, held: Mapping[str, Layout] | None = None) -> None:
        self.index = index
        self._held = held or {}  # what other parts of the graph have settled
        self._last: dict[str, bool] = {}

    def of(self, stored: str) -> Layout | None:
        if stored in self._held:
            return self._held[stored]
        shape = self.index.shape(stored)
        return layout(shape, channels_last=len(shape) == 4 and self._is_last(stored))

    def seen(self, stored: str) -> Layout | None:
        """The layout in which a tensor that is read through others has its channels side by side."""
        shape = self.index.shape(stored)
        return layout(shape, channels_last=len(shape) == 4 and self._reads_last(stored))

    def _is_last(self, stored: str) -> bool:
        if stored not in self._last:
            self._last[stored] = self._made_last(stored)
        return self._last[stored]

    def _made_last(self, stored: str) -> bool:
        producer = self.index.producer.get(stored)
        if producer is None or producer.op_type != QUANTISE:
            return self._wanted_last(stored)
        node = self.index.producer.get(producer.input[0])
        while node is not None and node.op_type in ("Relu", "Clip"):
            node = self.index.producer.get(node.input[0])
        if node is None or node.op_type == DEQUANTISE:
            return self._wanted_last(stored) if node is None else self._reads_last(node.input[0])
        if is_matrices(self.index, node):
            return True
        source = self._source(node)
        return source is not None and self._reads_last(source)

    def _source(self, node: NodeProto) -> str | None:
        """The stored tensor of the same shape that an element-wise operator takes, however many steps before."""
        from .patterns import pattern_at

        pattern = pattern_at(self.index, node)
        if pattern is None and node.op_type not in _ELEMENTWISE:
            return None
        names = [pattern.source] if pattern is not None else list(node.input)
        for name in names:
            source = self.index.producer.get(name)
            if source is not None and source.op_type == DEQUANTISE and source.input[0] not in self.index.constants:
                same = len(self.index.shape(source.input[0])) == len(self.index.shape(node.output[0]))
                return source.input[0] if same else None
        return None

    def _reads_last(self, stored: str) -> bool:
        """Whether the last axis of what is read lies side by side in the map that holds it."""
        if len(self.index.shape(stored)) != 4:
            return False
        chain = links(self.index, stored)
        if not chain.nodes:
            return self._is_last(chain.base)
        held = self.of(chain.base)
        if held is None:
            return False
        places = chain.places(held)
        return bool(places.shape[3] > 1 and places[0, 0, 0, 1] - places[0, 0, 0, 0] == 1)

    def _wanted_last(self, stored: str) -> bool:
        """For what comes from outside: as its readers want it."""
        ends = [n for node in self.index.consumers[stored] if node.op_type == DEQUANTISE for n in node.output]
        readers = [reader for end in ends for reader in self.index.consumers[end]]
        return any(is_matrices(self.index, reader) for reader in readers)


def is_matrices(index: GraphIndex, node: NodeProto) -> bool:
    """Whether an operator works on the last axis of a tensor with four."""
    if node.op_type == "Softmax":
        rank = len(index.shape(node.input[0]))
        return attribute(node, "axis", -1) % rank == rank - 1
    return node.op_type in _MATRICES


@dataclass(frozen=True, slots=True)
class Chain:
    """What lies between `base`, which an operator, the CPU or the host makes, and what is read: `nodes`, in order."""

    index: GraphIndex
    base: str
    nodes: tuple[NodeProto, ...]

    def places(self, held: Layout) -> NDArray[np.int64]:
        """For each element that is read, in its shape, the number of the base's element that it is."""
        rows, cols, channels = held.shape
        count = np.arange(rows * cols * channels).reshape(held.shape)
        found = held.unplace(count, self.index.shape(self.base))
        for node in self.nodes:
            found = _moved(self.index, node, found)
        return found


def links(index: GraphIndex, stored: str) -> Chain:
    """The way from a stored tensor back to what holds its elements."""
    nodes: list[NodeProto] = []
    while (before := _before(index, stored)) is not None:
        stored, passed = before
        nodes[:0] = passed
    return Chain(index, stored, tuple(nodes))


def _before(index: GraphIndex, stored: str) -> tuple[str, list[NodeProto]] | None:
    producer = index.producer.get(stored)
    if producer is None:
        return None
    if producer.op_type in LINKS and producer.input[0] not in index.constants:
        return producer.input[0], [producer]
    source = rescaled(index, producer)
    return None if source is None else (source, [])


def rescaled(index: GraphIndex, quantise: NodeProto) -> str | None:
    """The stored tensor whose integers a QuantizeLinear gives again, since the scalar factor between them is the
    ratio of both scales; None for any other."""
    found = factor_between(index, quantise)
    if found is None or _reaches_host(index, quantise.output[0]):
        return None
    source, ratio = found
    before, after = index.params(source), index.params(quantise)
    if before is None or after is None or before.dtype != after.dtype:
        return None
    a, b = before.as_tensor(), after.as_tensor()
    return (
        source.input[0] if a.zero_point == b.zero_point and abs(b.scale - a.scale * ratio) <= _CLOSE * b.scale else None
    )


def factor_between(index: GraphIndex, quantise: NodeProto) -> tuple[NodeProto, float] | None:
    """The DequantizeLinear of an activation and the positive scalar between it and a QuantizeLinear, each with one
    scale and zero point; None where anything else lies between."""
    factor = index.producer.get(quantise.input[0]) if quantise.op_type == QUANTISE else None
    if factor is None or factor.op_type not in ("Mul", "Div") or not index.is_leaf(factor.output[0]):
        return None
    values = [constant(index, name) for name in factor.input]
    place = next((n for n, value in enumerate(values) if value is not None and value.size == 1), None)
    if place is None or (factor.op_type == "Div" and place == 0):
        return None
    source, real = index.producer.get(factor.input[1 - place]), float(np.asarray(values[place]).reshape(-1)[0])
    if source is None or source.op_type != DEQUANTISE or values[1 - place] is not None or not real > 0:
        return None
    known = [index.params(node) for node in (source, quantise)]
    if any(params is None or not params.per_tensor for params in known) or len(source.input) < 3:
        return None
    same = index.shape(source.output[0]) == index.shape(quantise.input[0])
    return (source, 1 / real if factor.op_type == "Div" else real) if same and len(quantise.input) > 2 else None


def _reaches_host(index: GraphIndex, stored: str) -> bool:
    """Whether the host takes a stored tensor, or its real values, without another operator in between."""
    if stored in index.outputs:
        return True
    ends = [node for node in index.consumers[stored] if node.op_type == DEQUANTISE or node.op_type in LINKS]
    return any(_reaches_host(index, node.output[0]) for node in ends)


def _moved(index: GraphIndex, node: NodeProto, array: NDArray[np.int64]) -> NDArray[np.int64]:
    if node.op_type in VIEWS:
        return array.reshape(index.shape(node.output[0]))
    if node.op_type == "Transpose":
        return array.transpose(attribute(node, "perm", list(range(array.ndim))[::-1]))
    if node.op_type == "Gather":
        axis = attribute(node, "axis", 0)
        return array.take(index.constants[node.input[1]], axis=axis, mode="wrap")
    cut = [slice(None)] * array.ndim
    given = [[int(v) for v in index.constants[name].reshape(-1)] if name else [] for name in node.input[1:]]
    starts, ends, axes, steps = (*given, *([[]] * (4 - len(given))))
    for at, (first, end) in enumerate(zip(starts, ends, strict=True)):
        cut[axes[at] if axes else at] = slice(first, end, steps[at] if steps else 1)
    return array[tuple(cut)]


def is_link(index: GraphIndex, node: NodeProto) -> bool:
    """Whether an operator moves elements by constants, so that it can be read through."""
    if node.op_type not in LINKS:
        return False
    if node.op_type in VIEWS:
        return True
    if any(name and name not in index.constants for name in node.input[1:]):
        return False
    ranks = {len(index.shape(name)) for name in (node.input[0], node.output[0])}
    if node.op_type == "Transpose" and list(attribute(node, "perm", [])) == [0, 1, 3, 2]:
        return _feeds_product(index, node.output[0])
    return node.op_type != "Slice" or not ranks <= {2, 4}


def _feeds_product(index: GraphIndex, name: str) -> bool:
    """Whether only products of matrices read what is made of a tensor by moving, scaling or storing it."""
    readers = index.consumers[name]
    passing = LINKS | {QUANTISE, DEQUANTISE, "Mul", "Div"}
    return bool(readers) and all(
        r.op_type == "MatMul" or (r.op_type in passing and _feeds_product(index, r.output[0])) for r in readers
    )
