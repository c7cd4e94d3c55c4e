"""Operands of an attention product in an ONNX graph: which tokens, through which matrix, in which head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from ..common.errors import UnsupportedError
from ..kernels.cuboid_geometry import Axis, Cuboids, Triple
from ..kernels.cuboid_parameters import Floats, LayerNorm, Projection
from .onnx_model import GraphIndex, attribute
from .onnx_trace import PADDED, Table, Tracer


@dataclass(frozen=True)
class Operand:
    """Projected tokens: element (h, n, i, c) is row h·d + c of `projection` on token `positions[n, i]` of `source`."""

    source: str  # the layer normalisation's output
    projection: Projection
    heads: int
    positions: Table  # (cuboids, tokens), −1 for padding
    scale: float
    order: tuple[tuple[int, ...], tuple[int, ...]]  # batch axes that count heads, and those that count cuboids


@dataclass(frozen=True)
class Linear:
    """A matrix product with constants: `data` → `output`, weight (outputs, inputs)."""

    data: str
    projection: Projection
    output: str


class Operands:
    """Reads operands out of one model."""

    def __init__(self, index: GraphIndex) -> None:
        self.index, self.tracer = index, Tracer(index)

    def operand(self, tensor: str, *, transposed: bool = False) -> Operand:
        """The operand that `tensor` (..., tokens, channels) is; `transposed`: (..., channels, tokens).

        Raises:
            UnsupportedError: something else than one projection of normalised tokens stands behind it.
        """
        trace = self.tracer.trace(tensor)
        table = trace.table.swapaxes(-1, -2) if transposed else trace.table
        linear = self.linear(trace.root)
        if (table < 0).any():
            raise UnsupportedError(f"{tensor!r} is padded after its projection, not before")
        source, rows = self._tokens(linear.data)
        outputs = len(linear.projection.weight)
        heads, cuboids = _batch_axes(rows[table // outputs], table % outputs)
        token, channel = (_arranged(part, heads, cuboids) for part in (rows[table // outputs], table % outputs))
        if (channel != channel[:, :1, :1, :]).any() or (token != token[:1, :, :, :1]).any():
            raise UnsupportedError(f"{tensor!r} mixes tokens and channels")
        picked = channel[:, 0, 0, :].reshape(-1)
        weights = Projection(linear.projection.weight[picked], linear.projection.bias[picked])
        return Operand(source, weights, len(channel), token[0, :, :, 0], trace.scale, (heads, cuboids))

    def linear(self, tensor: str) -> Linear:
        """The constant matrix product that computes `tensor`, with or without bias."""
        node = self.index.producer.get(tensor)
        if node is not None and node.op_type == "Add":
            for data, bias in ((0, 1), (1, 0)):
                value = self.tracer.constant(node.input[bias])
                inner = self.index.producer.get(node.input[data])
                if value is not None and inner is not None and inner.op_type == "MatMul":
                    return self._product(inner, np.asarray(value, np.float64).reshape(-1), tensor)
        if node is not None and node.op_type == "MatMul":
            return self._product(node, None, tensor)
        if node is not None and node.op_type == "Gemm":
            return self._gemm(node, tensor)
        raise UnsupportedError(f"{tensor!r} is not the product of tokens and a constant matrix")

    def _product(self, node: NodeProto, bias: Floats | None, output: str) -> Linear:
        weight = self.tracer.constant(node.input[1])
        if weight is None or weight.ndim != 2:
            raise UnsupportedError(f"the second operand of {node.name!r} is not a constant matrix")
        found = np.asarray(weight, np.float64).T
        if bias is not None and bias.size != len(found):
            raise UnsupportedError(f"the bias of {node.name!r} has {bias.size} elements for {len(found)} outputs")
        return Linear(node.input[0], Projection(found, np.zeros(len(found)) if bias is None else bias), output)

    def _gemm(self, node: NodeProto, output: str) -> Linear:
        weight = self.tracer.constant(node.input[1])
        plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0 and not attribute(
            node, "transA", 0
        )
        if weight is None or weight.ndim != 2 or not plain:
            raise UnsupportedError(f"{node.name!r} is not a plain product with a constant matrix")
        found = np.asarray(weight if attribute(node, "transB", 0) else weight.T, np.float64)
        bias = self.tracer.constant(node.input[2]) if len(node.input) > 2 else np.zeros(len(found))
        if bias is None or bias.size != len(found):
            raise UnsupportedError(f"the bias of {node.name!r} is not a constant vector")
        return Linear(node.input[0], Projection(found, np.asarray(bias, np.float64).reshape(-1)), output)

    def _tokens(self, tensor: str) -> tuple[str, Table]:
        """The normalised tensor behind a product's rows, and the token of each row (−1: padding)."""
        trace = self.tracer.trace(tensor)
        width = trace.table.shape[-1]
        rows = trace.table.reshape(-1, width)
        tokens = np.where(rows[:, 0] < 0, PADDED, rows[:, 0] // width)
        expected = np.where(tokens[:, None] < 0, PADDED, tokens[:, None] * width + np.arange(width))
        if trace.scale != 1.0 or (rows != expected).any():
            raise UnsupportedError(f"the rows of {tensor!r} are not whole tokens")
        return trace.root, tokens

    def norm(self, tensor: str) -> tuple[str, LayerNorm]:
        """Input and parameters of the layer normalisation that makes `tensor`."""
        node = self.index.producer.get(tensor)
        if node is None or node.op_type != "LayerNormalization":
            raise UnsupportedError(f"{tensor!r} is not made by a layer normalisation")
        rank = len(self.index.shape(tensor))
        if attribute(node, "axis", -1) not in (-1, rank - 1):
            raise UnsupportedError(f"{node.name!r} normalises over more than the channels")
        width = self.index.shape(tensor)[-1]
        gamma = self.tracer.constant(node.input[1])
        beta = self.tracer.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(width)
        if gamma is None or beta is None or gamma.size != width or beta.size != width:
            raise UnsupportedError(f"scale and offset of {node.name!r} are not constants per channel")
        values = (np.asarray(part, np.float64).reshape(-1) for part in (gamma, beta))
        return node.input[0], LayerNorm(*values, epsilon=attribute(node, "epsilon", 1e-5))


def _batch_axes(token: Table, channel: Table) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes in front of the last two along which the channel changes (heads), and all others (cuboids)."""
    axes = range(token.ndim - 2)
    heads = tuple(axis for axis in axes if (np.diff(channel, axis=axis) != 0).any())
    return heads, tuple(axis for axis in axes if axis not in heads)


def _arranged(table: Table, heads: tuple[int, ...], cuboids: tuple[int, ...]) -> Table:
    """(heads, cuboids, tokens, channels)."""
    ordered = table.transpose(*heads, *cuboids, table.ndim - 2, table.ndim - 1)
    count = int(np.prod([table.shape[axis] for axis in heads]))
    return ordered.reshape(count, -1, *table.shape[-2:])


def arranged_like(values: NDArray, shape: tuple[int, ...], operand: Operand) -> NDArray:
    """A constant that broadcasts to logits of `shape`, as (heads, cuboids, queries, keys)."""
    return _arranged(np.broadcast_to(values, shape), *operand.order)


def find_cuboids(positions: Table, shape: Triple, padding: str) -> Cuboids:
    """The decomposition of a (T, H, W) tensor that puts token `positions[n, i]` at place i of cuboid n.

    Raises:
        UnsupportedError: no cuboids, strategies and shifts do.
    """
    count, volume = positions.shape
    valid = positions >= 0
    coordinates = np.stack(np.unravel_index(np.where(valid, positions, 0), shape))
    for cuboid in _cuboid_sizes(shape, count, volume):
        axes = [
            _axis(size, block, coordinate, valid, (number, cuboid, shape), padding == "nearest")
            for number, (size, block, coordinate) in enumerate(zip(shape, cuboid, coordinates, strict=True))
        ]
        t, h, w = axes
        if t is None or h is None or w is None:
            continue
        shift, strategy = (t.shift, h.shift, w.shift), (t.strategy, h.strategy, w.strategy)
        found = Cuboids.of(shape, cuboid, shift, strategy, padding)
        if np.array_equal(found.valid, valid):
            return found
    raise UnsupportedError(f"the {count} groups of {volume} tokens are not cuboids of a {shape} tensor")


def _cuboid_sizes(shape: Triple, count: int, volume: int) -> Iterator[Triple]:
    for t, h in product(range(1, shape[0] + 1), range(1, shape[1] + 1)):
        if volume % (t * h):
            continue
        w = volume // (t * h)
        if w <= shape[2] and -(-shape[0] // t) * -(-shape[1] // h) * -(-shape[2] // w) == count:
            yield t, h, w


def _axis(
    size: int,
    block: int,
    coordinate: Table,
    valid: NDArray[np.bool_],
    where: tuple[int, Triple, Triple],
    nearest: bool,
) -> Axis | None:
    """The axis whose blocks have these coordinates wherever a token is valid."""
    number, cuboid, shape = where
    blocks = [-(-extent // part) for extent, part in zip(shape, cuboid, strict=True)]
    for strategy, shift in [("l", s) for s in range(block)] + [("d", 0)]:
        axis = Axis.of(size, block, shift, strategy, nearest=nearest)
        spread = [1] * 6
        spread[number], spread[number + 3] = axis.loads.shape
        source = np.broadcast_to(axis.loads.reshape(spread), (*blocks, *cuboid)).reshape(coordinate.shape)
        if (source[valid] == coordinate[valid]).all():
            return axis
    return None
