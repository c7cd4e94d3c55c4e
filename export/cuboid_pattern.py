"""Cuboid attention as one pattern in an ONNX graph, whatever operators the exporter rearranged tokens with.

A match starts at a Softmax, follows both products back to projections of one layer normalisation, reads off which
token stands where (`onnx_trace.py`), and looks for the cuboids that put it there. Nothing is taken on trust: the
matrices that are found, evaluated in float64, must give what the matched part of the model gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from onnx.utils import Extractor

from ..common.errors import LanefitError, UnsupportedError
from ..kernels.cuboid_geometry import Cuboids, Triple
from ..kernels.cuboid_parameters import CuboidParameters, Floats, GlobalParameters, Projection, attention
from .cuboid_operands import Linear, Operand, Operands, arranged_like, find_cuboids
from .onnx_model import GraphIndex, attribute
from .onnx_trace import inverse

_HIDDEN = -1e4  # addends at or below this hide a key
_TOLERANCE = 1e-3  # of the largest element: float32 against float64, through a softmax
Mask = NDArray[np.bool_]
_T = TypeVar("_T")


@dataclass(frozen=True)
class CuboidMatch:
    """One layer: it reads `input` (1, T, H, W, C) and, with global vectors, `global_input`; `nodes` compute it, among
    them `softmax`, which names it."""

    input: str
    output: str
    parameters: CuboidParameters
    nodes: tuple[str, ...]
    softmax: str = ""
    global_input: str | None = None
    global_output: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,) if self.global_input is None else (self.input, self.global_input)

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output,) if self.global_output is None else (self.output, self.global_output)


def seen_inside(index: GraphIndex, match: CuboidMatch) -> str | None:
    """A tensor between inputs and outputs of a layer that something else reads, or the host."""
    own = set(match.nodes)
    names = (name for node in index.nodes if node.name in own for name in node.output)
    for name in names:
        if name not in match.outputs and (
            name in index.outputs or any(reader.name not in own for reader in index.consumers[name])
        ):
            return name
    return None


@dataclass(frozen=True)
class NearMiss:
    """A Softmax between two products that is no cuboid attention, and why."""

    node: str
    reason: str


@dataclass(frozen=True)
class _Products:
    """The two products around one Softmax. `keys` and `values` are one pair each, or local and global ones."""

    softmax: NodeProto
    queries: list[Operand]
    keys: list[Operand]
    values: list[Operand]
    bias: Floats | None
    mask: Mask
    result: str


def find_cuboid_attention(model: ModelProto) -> tuple[list[CuboidMatch], list[NearMiss]]:
    """Every cuboid-attention layer of a model with static shapes and batch 1, and what only looks like one."""
    reader = _Reader(model)
    products: list[_Products] = []
    misses: list[NearMiss] = []
    for node in reader.index.nodes:
        if node.op_type == "Softmax" and (found := reader.guarded(node, misses, reader.products, node)):
            products.append(found)
    locals_, others = [p for p in products if reader.is_local(p)], [p for p in products if not reader.is_local(p)]
    used: set[str] = set()
    matches: list[CuboidMatch] = []
    for item in locals_:
        match = reader.guarded(item.softmax, misses, reader.match, item, others)
        if match is not None:
            matches.append(match[0])
            used.update(match[1])
    left = [p.softmax.name for p in others if p.softmax.name not in used]
    misses += [NearMiss(name, "its queries and keys are tokens of different tensors") for name in left]
    return matches, misses


class _Reader:
    def __init__(self, model: ModelProto) -> None:
        self.model, self.index = model, GraphIndex(model)
        self.operands = Operands(self.index)

    @staticmethod
    def guarded(node: NodeProto, misses: list[NearMiss], step: Callable[..., _T], *args: object) -> _T | None:
        """The step's result, or None and a near miss."""
        try:
            return step(*args)
        except LanefitError as error:
            misses.append(NearMiss(node.name, error.what))
            return None

    # --- products ----------------------------------------------------------------------------------

    def products(self, node: NodeProto) -> _Products:
        """What stands before and behind a Softmax."""
        rank = len(self.index.shape(node.input[0]))
        if attribute(node, "axis", -1) not in (-1, rank - 1):
            raise UnsupportedError("the softmax is not over the last axis")
        logits, addend, hidden, scale = self._peeled(node.input[0])
        parts = self._parts(logits, rank - 1)
        queries, keys, biases = [], [], []
        for part in parts:
            inner, more, inner_hidden, factor = self._peeled(part)
            query, key = self._product_operands(inner, factor * scale)
            queries.append(query)
            keys.append(key)
            biases.append(None if more is None else arranged_like(more, self.index.shape(part), query))
            if inner_hidden is not None and len(parts) > 1:
                raise UnsupportedError("keys are hidden before they are joined")
            if inner_hidden is not None:
                hidden = inner_hidden if hidden is None else hidden | inner_hidden
        whole = self.index.shape(logits)
        if addend is not None:
            if biases[0] is not None or len(parts) > 1:
                raise UnsupportedError("the logits have two biases")
            biases[0] = arranged_like(addend, whole, queries[0])
        seen = np.ones(whole, np.bool_) if hidden is None else ~np.broadcast_to(hidden, whole)
        shares = self._masked_shares(node.output[0], hidden)
        values, result = self._values(shares)
        if any(bias is not None for bias in biases[1:]):
            raise UnsupportedError("logits against global vectors have a bias")
        mask = arranged_like(seen, whole, queries[0])
        return _Products(node, queries, keys, values, biases[0], mask, result)

    def _peeled(self, tensor: str) -> tuple[str, Floats | None, Mask | None, float]:
        """A logits tensor without its constant addends, hidden keys and scalar factors."""
        bias: Floats | None = None
        hidden: Mask | None = None
        scale = 1.0
        while (node := self.index.producer.get(tensor)) is not None:
            if node.op_type == "Add" and (found := self._one_constant(node)) is not None:
                tensor, value = found
                gone = value <= _HIDDEN
                hidden = gone if hidden is None and gone.any() else hidden | gone if hidden is not None else None
                value = np.where(gone, 0.0, value) * scale
                bias = value if bias is None else bias + value
            elif node.op_type == "Where" and (where := self._hiding(node)) is not None:
                tensor, gone = where
                hidden = gone if hidden is None else hidden | gone
            elif node.op_type in ("Mul", "Div") and (trace := self.operands.tracer.trace(tensor)).nodes == (node.name,):
                tensor, scale = trace.root, scale * trace.scale
            else:
                break
        if bias is not None and not np.any(bias):
            bias = None
        return tensor, bias, hidden, scale

    def _one_constant(self, node: NodeProto) -> tuple[str, Floats] | None:
        for data, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
            value = self.operands.tracer.constant(other)
            if value is not None and self.operands.tracer.constant(data) is None:
                return data, np.asarray(value, np.float64)
        return None

    def _hiding(self, node: NodeProto) -> tuple[str, Mask] | None:
        """Where(condition, hidden, logits) or Where(condition, logits, hidden)."""
        condition = self.operands.tracer.constant(node.input[0])
        if condition is None:
            return None
        for data, fill, gone in ((2, 1, condition), (1, 2, ~condition.astype(np.bool_))):
            value = self.operands.tracer.constant(node.input[fill])
            if value is not None and (value <= _HIDDEN).all():
                return node.input[data], gone.astype(np.bool_)
        return None

    def _parts(self, logits: str, last_axis: int) -> list[str]:
        node = self.index.producer.get(logits)
        if node is None or node.op_type != "Concat":
            return [logits]
        if attribute(node, "axis") not in (-1, last_axis) or len(node.input) != 2:
            raise UnsupportedError(f"{node.name!r} joins logits in a way that is not local and global keys")
        return list(node.input)

    def _product_operands(self, tensor: str, scale: float) -> tuple[Operand, Operand]:
        node = self.index.producer.get(tensor)
        if node is None or node.op_type != "MatMul":
            raise UnsupportedError(f"the logits {tensor!r} are not a product of queries and keys")
        query = self.operands.operand(node.input[0])
        key = self.operands.operand(node.input[1], transposed=True)
        return replace(query, scale=query.scale * key.scale * scale), key

    def _masked_shares(self, shares: str, hidden: Mask | None) -> str:
        """The softmax times its mask, where the exporter wrote that."""
        readers = self.index.consumers[shares]
        if len(readers) != 1:
            raise UnsupportedError("something else reads the shares")
        if readers[0].op_type != "Mul":
            return shares
        found = self._one_constant(readers[0])
        whole = self.index.shape(shares)
        seen = np.ones(whole) if hidden is None else ~np.broadcast_to(hidden, whole)
        if found is None or not np.array_equal(np.broadcast_to(found[1], whole), seen):
            raise UnsupportedError("the shares are multiplied with something that is not the mask of the logits")
        return readers[0].output[0]

    def _values(self, shares: str) -> tuple[list[Operand], str]:
        (node,) = readers if len(readers := self.index.consumers[shares]) == 1 else (None,)
        if node is None or node.op_type != "MatMul" or node.input[0] != shares:
            raise UnsupportedError("the shares are not multiplied with values")
        source = self.index.producer.get(node.input[1])
        joined = source is not None and source.op_type == "Concat" and self._is_join(source)
        names = list(source.input) if joined and source is not None else [node.input[1]]
        return [self.operands.operand(name) for name in names], node.output[0]

    def _is_join(self, node: NodeProto) -> bool:
        """A Concat of tokens, not one of several that rearrange one tensor."""
        return self.operands.tracer.trace(node.output[0]).root == node.output[0]

    # --- a layer -----------------------------------------------------------------------------------

    def is_local(self, p: _Products) -> bool:
        """Queries and first keys are tokens of one tensor with three axes."""
        return p.queries[0].source == p.keys[0].source and len(self.index.shape(p.queries[0].source)) == 5

    def match(self, p: _Products, others: list[_Products]) -> tuple[CuboidMatch, list[str]]:
        query, key, value = p.queries[0], p.keys[0], p.values[0]
        if not query.source == key.source == value.source:
            raise UnsupportedError("queries, keys and values are tokens of different tensors")
        same = np.array_equal(query.positions, key.positions) and np.array_equal(key.positions, value.positions)
        if not same or not query.heads == key.heads == value.heads or (key.scale != 1.0 and value.scale != 1.0):
            raise UnsupportedError("queries, keys and values are arranged differently")
        shape = self._tensor_shape(query.source)
        cuboids = self._cuboids(query.positions, shape, p.mask)
        input_, norm = self.operands.norm(query.source)
        out, output = self._output(p.result, cuboids, query)
        parameters = CuboidParameters(
            cuboids=cuboids, heads=query.heads, scale=query.scale, norm=norm,
            query=query.projection, key=key.projection, value=_scaled(value),
            bias=self._bias(p), out=out,
        )  # fmt: skip
        found = CuboidMatch(input_, output, parameters, (), p.softmax.name)
        used: list[str] = []
        if len(p.keys) > 1:
            found, used = self._with_globals(found, p, others)
        found = replace(found, nodes=self._between(found))
        self._verify(found)
        return found, used

    def _tensor_shape(self, tensor: str) -> Triple:
        batch, t, h, w, _ = self.index.shape(tensor)
        if batch != 1:
            raise UnsupportedError(f"batch {batch}")
        return t, h, w

    @staticmethod
    def _cuboids(positions: NDArray[np.int64], shape: Triple, mask: Mask) -> Cuboids:
        """Cuboids whose mask, with one of the paddings, is what the model hides."""
        volume = positions.shape[1]
        local = mask[:, :, :, :volume]
        if (local != local[:1]).any() or not mask[:, :, :, volume:].all():
            raise UnsupportedError("heads hide different keys, or global vectors are hidden")
        stretched = (positions >= 0).all() and positions.size > prod(shape)
        for padding in ("nearest",) if stretched else ("zeros", "ignore"):
            found = find_cuboids(positions, shape, padding)
            if np.array_equal(np.broadcast_to(local[0], found.mask.shape), found.mask):
                return found
        raise UnsupportedError("the mask is not that of shifted cuboids, nor of ignored padding")

    @staticmethod
    def _bias(p: _Products) -> Floats | None:
        if p.bias is None:
            return None
        if (p.bias != p.bias[:, :1]).any():
            raise UnsupportedError("cuboids have different position biases")
        return p.bias[:, 0]

    def _output(self, result: str, cuboids: Cuboids, query: Operand) -> tuple[Projection | None, str]:
        """The projection behind the heads and the tensor in which every token is back in its place."""
        channels = len(query.projection.weight)
        shape = (1, *cuboids.shape, channels)
        for node in self.index.nodes:
            if node.op_type not in ("MatMul", "Gemm") or self.operands.tracer.trace(node.input[0]).root != result:
                continue
            trace = self.operands.tracer.trace(node.input[0])
            order = _head_order(trace.table, self.index.shape(result), query)
            linear = self._biased(node.output[0])
            weight = np.empty_like(linear.projection.weight)
            weight[:, order] = linear.projection.weight
            rows = _row_tokens(trace.table, self.index.shape(result), query)
            return Projection(weight, linear.projection.bias), self._placed(linear.output, rows, cuboids, shape)
        table = self.operands.tracer.trace(result).table
        arranged = table.transpose(*query.order[0], *query.order[1], table.ndim - 2, table.ndim - 1)
        arranged = arranged.reshape(query.heads, cuboids.count, cuboids.volume, -1).transpose(1, 2, 0, 3)
        return None, self._at(result, arranged.reshape(-1, channels), cuboids, shape)

    def _biased(self, tensor: str) -> Linear:
        """The linear map with the bias that follows, if one does."""
        readers = self.index.consumers[tensor]
        if len(readers) == 1 and readers[0].op_type == "Add":
            found = self._one_constant(readers[0])
            if found is not None and found[1].size == self.index.shape(tensor)[-1]:
                return self.operands.linear(readers[0].output[0])
        return self.operands.linear(tensor)

    def _placed(self, tensor: str, rows: NDArray[np.int64], cuboids: Cuboids, shape: tuple[int, ...]) -> str:
        """`rows`: cuboid × volume + place of each row of `tensor`."""
        width = shape[-1]
        elements = np.empty((len(rows), width), np.int64)
        elements[rows] = np.arange(len(rows) * width).reshape(-1, width)
        return self._at(tensor, elements, cuboids, shape)

    def _at(self, root: str, elements: NDArray[np.int64], cuboids: Cuboids, shape: tuple[int, ...]) -> str:
        """The first tensor that holds `elements` (cuboid tokens, channels) of `root` where the tokens came from."""
        wanted = elements[cuboids.scattered].reshape(shape)
        for node in self.index.nodes:
            for name in node.output:
                if name in self.index.types and self.index.shape(name) == shape:
                    trace = self.operands.tracer.trace(name)
                    if trace.root == root and trace.scale == 1.0 and np.array_equal(trace.table, wanted):
                        return name
        raise UnsupportedError("tokens do not return to where they came from")

    # --- global vectors ----------------------------------------------------------------------------

    def _with_globals(self, match: CuboidMatch, p: _Products, others: list[_Products]) -> tuple[CuboidMatch, list[str]]:
        if len(p.values) != 2 or p.keys[1].source != p.values[1].source:
            raise UnsupportedError("the values do not have the global vectors that the keys have")
        source = p.keys[1].source
        tokens = p.queries[0].source
        partners = [o for o in others if o.queries[0].source == source and o.keys[0].source == tokens]
        if len(partners) != 1:
            raise UnsupportedError(f"{len(partners)} updates of the global vectors read the same tokens, not one")
        (other,) = partners
        self._check_global(match.parameters, other)
        scales = {p.queries[1].scale, *(q.scale for q in other.queries)}
        if any(not np.isclose(scale, match.parameters.scale, rtol=1e-5) for scale in scales):
            raise UnsupportedError("logits of global vectors have another scale")
        input_, norm = self.operands.norm(source)
        own = None
        if len(other.keys) > 1:
            own = (other.queries[1].projection, other.keys[1].projection, other.values[1].projection)
        out, output = self._global_output(other)
        parameters = GlobalParameters(
            norm, p.queries[1].projection, p.keys[1].projection, p.values[1].projection,
            other.queries[0].projection, other.keys[0].projection, other.values[0].projection, own, out,
        )  # fmt: skip
        found = replace(match, parameters=replace(match.parameters, globals=parameters))
        return replace(found, global_input=input_, global_output=output), [other.softmax.name]

    @staticmethod
    def _check_global(p: CuboidParameters, other: _Products) -> None:
        positions = other.keys[0].positions.reshape(-1)
        expected = p.cuboids.gathered.reshape(-1)
        if other.bias is not None or not np.array_equal(np.sort(positions), np.sort(expected)):
            raise UnsupportedError("global vectors do not attend to every token alike")
        hidden = ~other.mask.reshape(-1, other.mask.shape[-1])
        wanted = np.zeros(hidden.shape[-1], np.bool_)
        wanted[: len(positions)] = positions < 0 if p.cuboids.padding == "ignore" else False
        if (hidden != wanted).any():
            raise UnsupportedError("the mask of global vectors is not that of the tokens that are padding")

    def _global_output(self, other: _Products) -> tuple[Projection | None, str]:
        for node in self.index.nodes:
            if node.op_type in ("MatMul", "Gemm"):
                trace = self.operands.tracer.trace(node.input[0])
                if trace.root == other.result:
                    order = _head_order(trace.table, self.index.shape(other.result), other.queries[0])
                    linear = self._biased(node.output[0])
                    weight = np.empty_like(linear.projection.weight)
                    weight[:, order] = linear.projection.weight
                    return Projection(weight, linear.projection.bias), linear.output
        shape = self.index.shape(other.result)
        merged = [
            n for n in self.index.types if self.operands.tracer.trace(n).root == other.result and n != other.result
        ]
        wide = [n for n in merged if self.index.shape(n)[-1] == other.queries[0].heads * shape[-1]]
        if not wide:
            raise UnsupportedError("the heads of global vectors are not joined")
        return None, wide[0]

    # --- proof ---------------------------------------------------------------------------------------

    def _between(self, match: CuboidMatch) -> tuple[str, ...]:
        """Nodes that the outputs need beyond the inputs, in order."""
        stop = {match.input, match.global_input}
        wanted = [name for name in (match.output, match.global_output) if name]
        found: set[str] = set()
        while wanted:
            name = wanted.pop()
            node = self.index.producer.get(name)
            if name in stop or node is None or node.name in found:
                continue
            found.add(node.name)
            wanted.extend(node.input)
        return tuple(node.name for node in self.index.nodes if node.name in found)

    def _verify(self, match: CuboidMatch) -> None:
        """Runs the matched part in ONNX Runtime on random input and compares it with the matrices that were found."""
        import onnxruntime

        inputs = [name for name in (match.input, match.global_input) if name]
        outputs = [name for name in (match.output, match.global_output) if name]
        part = Extractor(self.model).extract_model(inputs, outputs)
        session = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(0)
        feeds = {name: rng.standard_normal(self.index.shape(name)).astype(np.float32) for name in inputs}
        found = session.run(outputs, feeds)
        means = attention(match.parameters, *(value[0] for value in feeds.values()))
        for value, expected in zip(found, (means.output, means.global_output), strict=False):
            assert expected is not None
            array = np.asarray(value).reshape(expected.shape)
            if np.abs(array - expected).max() > _TOLERANCE * max(1.0, np.abs(expected).max()):
                raise UnsupportedError("the part that was found does not compute cuboid attention")


def _head_order(table: NDArray[np.int64], shape: tuple[int, ...], query: Operand) -> NDArray[np.int64]:
    """Place [head][channel] of each input channel of the projection, from the table of its first row."""
    coordinates = np.stack(np.unravel_index(table.reshape(-1, table.shape[-1])[0], shape))
    number = np.zeros(table.shape[-1], np.int64)
    for axis in query.order[0]:
        number = number * shape[axis] + coordinates[axis]
    return number * shape[-1] + coordinates[-1]


def _row_tokens(table: NDArray[np.int64], shape: tuple[int, ...], query: Operand) -> NDArray[np.int64]:
    """Number [cuboid][place] of each row of the projection's input."""
    rows = table.reshape(-1, table.shape[-1])[:, 0]
    coordinates = np.stack(np.unravel_index(rows, shape))
    number = np.zeros(len(rows), np.int64)
    for axis in (*query.order[1], len(shape) - 2):
        number = number * shape[axis] + coordinates[axis]
    inverse(number, len(rows))
    return number


def _scaled(value: Operand) -> Projection:
    return Projection(value.projection.weight * value.scale, value.projection.bias * value.scale)
