"""Where the elements of a tensor come from, through any chain of operators that only move data.

Exporters write one and the same rearrangement in many ways (reshape and transpose, slice and concatenate, gather,
split, pad). What they have in common is the index table: for every element the element of the *root* that it is a
copy of, or −1 for a padded zero. The root is the nearest tensor that something else than a move computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from ..common.errors import UnsupportedError
from ..kernels.cuboid_geometry import nearest_index
from .onnx_model import GraphIndex, attribute

Table = NDArray[np.int64]
PADDED = -1


@dataclass(frozen=True)
class Trace:
    """Elements of `root` by flat number, in the shape of the tensor that was traced, times `scale`."""

    root: str
    table: Table
    scale: float = 1.0
    nodes: tuple[str, ...] = ()


class Tracer:
    """Traces tensors of one model, each once."""

    def __init__(self, index: GraphIndex) -> None:
        self.index = index
        for node in index.nodes:
            if node.op_type == "Constant" and attribute(node, "value") is not None:
                index.constants[node.output[0]] = numpy_helper.to_array(attribute(node, "value"))
        self._known: dict[str, Trace] = {}

    def trace(self, tensor: str) -> Trace:
        """The trace of a tensor; a tensor that no move makes is its own root."""
        if tensor not in self._known:
            self._known[tensor] = self._moved(tensor) or self._root(tensor)
        return self._known[tensor]

    def constant(self, tensor: str) -> NDArray | None:
        """The value of a tensor that moves of constants make, or None."""
        if tensor in self.index.constants:
            return self.index.constants[tensor]
        if self.index.producer.get(tensor) is None:
            return None
        found = self.trace(tensor)
        value = self.index.constants.get(found.root)
        if value is None or (found.table < 0).any():
            return None
        return value.reshape(-1)[found.table] * (found.scale if found.scale != 1 else 1)

    def _root(self, tensor: str) -> Trace:
        shape = self.index.shape(tensor)
        return Trace(tensor, np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape))

    def _moved(self, tensor: str) -> Trace | None:
        node = self.index.producer.get(tensor)
        if node is None:
            return None
        if node.op_type in ("Mul", "Div"):
            return self._scaled(node)
        if node.op_type == "Concat":
            return self._concatenated(node)
        move = _MOVES.get(node.op_type)
        if move is None:
            return None
        operands = [self.index.constants.get(name) if name else None for name in node.input[1:]]
        if any(value is None and name for value, name in zip(operands, node.input[1:], strict=True)):
            return None
        source = self.trace(node.input[0])
        table = move(node, source.table, operands, list(node.output).index(tensor))
        return None if table is None else replace(source, table=table, nodes=(*source.nodes, node.name))

    def _scaled(self, node: NodeProto) -> Trace | None:
        """A product with one scalar constant."""
        for value, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
            scalar = self.constant(other) if value not in self.index.constants else None
            if scalar is None or scalar.size != 1 or (node.op_type == "Div" and other == node.input[0]):
                continue
            factor = float(scalar.reshape(-1)[0])
            source = self.trace(value)
            if factor == 0 or source.table.ndim < scalar.ndim:
                return None
            scale = source.scale / factor if node.op_type == "Div" else source.scale * factor
            return replace(source, scale=scale, nodes=(*source.nodes, node.name))
        return None

    def _concatenated(self, node: NodeProto) -> Trace | None:
        parts = [self.trace(name) for name in node.input]
        if len({(part.root, part.scale) for part in parts}) != 1:
            return None
        table = np.concatenate([part.table for part in parts], attribute(node, "axis"))
        nodes = tuple(dict.fromkeys(name for part in parts for name in part.nodes))
        return Trace(parts[0].root, table, parts[0].scale, (*nodes, node.name))


Move = Callable[[NodeProto, Table, "list[NDArray | None]", int], "Table | None"]


def _reshape(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table | None:
    (shape,) = operands
    if shape is None:
        return None
    kept = not attribute(node, "allowzero", 0)
    sizes = [table.shape[n] if size == 0 and kept else int(size) for n, size in enumerate(shape.reshape(-1))]
    return table.reshape(sizes)


def _transpose(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table:
    return table.transpose(attribute(node, "perm"))


def _squeeze(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table:
    axes = tuple(int(a) for a in operands[0].reshape(-1)) if operands and operands[0] is not None else None
    return table.squeeze(axes)


def _unsqueeze(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table | None:
    if not operands or operands[0] is None:
        return None
    return np.expand_dims(table, tuple(int(a) for a in operands[0].reshape(-1)))


def _flatten(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table:
    axis = attribute(node, "axis", 1)
    return table.reshape(int(np.prod(table.shape[:axis])), -1)


def _expand(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table | None:
    if operands[0] is None:
        return None
    return np.broadcast_to(table, np.broadcast_shapes(table.shape, tuple(int(n) for n in operands[0])))


def _slice(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table | None:
    starts, ends, axes, steps = [*operands, None, None, None, None][:4]
    if starts is None or ends is None:
        return None
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    cut = [slice(None)] * table.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            return None
        cut[int(axis)] = slice(int(start), int(end), int(step))
    return table[tuple(cut)]


def _gather(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table | None:
    (indices,) = operands
    return None if indices is None else np.take(table, indices.astype(np.int64), axis=attribute(node, "axis", 0))


def _split(node: NodeProto, table: Table, operands: list[NDArray | None], number: int) -> Table:
    axis = attribute(node, "axis", 0)
    if operands and operands[0] is not None:
        ends = np.cumsum(operands[0])[:-1]
    else:
        size = -(-table.shape[axis] // len(node.output))
        ends = np.arange(1, len(node.output)) * size
    return np.split(table, [int(end) for end in ends], axis)[number]


def _pad(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table | None:
    pads, value, axes = [*operands, None, None, None][:3]
    if pads is None or attribute(node, "mode", "constant") != "constant" or (pads < 0).any():
        return None
    if value is not None and value.size and float(value.reshape(-1)[0]) != 0:
        return None
    axes = np.arange(table.ndim) if axes is None else axes
    widths = [(0, 0)] * table.ndim
    for number, axis in enumerate(axes):
        widths[int(axis)] = (int(pads[number]), int(pads[number + len(axes)]))
    return np.pad(table, widths, constant_values=PADDED)


def _resize(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table | None:
    """Nearest neighbours as torch takes them: floor(position × size ÷ target)."""
    settings = {
        "mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor",
    }  # fmt: skip
    defaults = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}
    if any(attribute(node, name, defaults[name]) != value for name, value in settings.items()):
        return None
    _, scales, sizes = [*operands, None, None, None][:3]
    if attribute(node, "axes") is not None or (sizes is None and scales is None):
        return None
    if sizes is not None and sizes.size:
        targets = [int(size) for size in sizes.reshape(-1)]
    elif scales is not None:
        targets = [int(size * scale) for size, scale in zip(table.shape, scales.reshape(-1), strict=True)]
    else:
        return None
    for axis, target in enumerate(targets):
        table = table.take(nearest_index(table.shape[axis], target), axis)
    return table


def _identity(node: NodeProto, table: Table, operands: list[NDArray | None], _: int) -> Table:
    return table


_MOVES: dict[str, Move] = {
    "Reshape": _reshape, "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Flatten": _flatten,
    "Expand": _expand, "Slice": _slice, "Gather": _gather, "Split": _split, "Pad": _pad, "Identity": _identity,
    "Resize": _resize,
}  # fmt: skip


def inverse(table: Table, size: int) -> Table:
    """Positions in `table` of the elements 0 .. size − 1 of its root.

    Raises:
        UnsupportedError: the table repeats or omits an element.
    """
    flat = table.reshape(-1)
    if flat.size != size or not np.array_equal(np.sort(flat), np.arange(size)):
        raise UnsupportedError("elements are repeated or dropped where every one is needed once")
    found = np.empty(size, np.int64)
    found[flat] = np.arange(size)
    return found
