"""Sites: one float operator of a QDQ model together with the quantisation around it, as rules and lowering see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from .graph import Clamp, Quantisation
from .onnx_model import DEQUANTISE, QUANTISE, GraphIndex, QuantParams, attribute
from .operands import LINKS, VIEWS, Layout, Layouts, is_link, rescaled
from .patterns import Pattern, pattern_at

ACTIVATIONS = frozenset({"Relu", "Clip"})
LINEAR = frozenset({"Gemm", "MatMul"})
STORED = {np.dtype(np.int8): "int8", np.dtype(np.int16): "int16"}  # activations, by what ONNX stores them as
_HOLDING = frozenset({"Add", "Sub", "Mul", "Concat"})  # operators whose constant operands the engine holds
BORDER = frozenset({QUANTISE, DEQUANTISE})


@dataclass(frozen=True, slots=True)
class Weights:
    """Stored weights, as in the model, and their quantisation."""

    values: NDArray
    params: QuantParams


@dataclass(frozen=True)
class Site:
    """`node` with the Relu/Clip operators behind it and the QuantizeLinear that ends it, if there is one.

    `inputs` are the stored tensors behind the activations, constants included where the engine can hold them; None
    where an activation is not a dequantised tensor. With a `pattern`, `node` is the last of its operators.
    """

    index: GraphIndex
    layouts: Layouts
    node: NodeProto
    inputs: tuple[str | None, ...]
    epilogue: tuple[NodeProto, ...]
    quantise: NodeProto | None
    pattern: Pattern | None = None

    @property
    def members(self) -> tuple[NodeProto, ...]:
        """The operators that one engine node replaces, the computing one first."""
        tail = (self.quantise,) if self.quantise is not None and self.quantise is not self.node else ()
        inner = self.pattern.nodes[:-1] if self.pattern is not None else ()
        return (self.node, *inner, *self.epilogue, *tail)

    @property
    def sources(self) -> tuple[str, ...]:
        """The activations that the site reads, as its operators name them."""
        return (self.pattern.source,) if self.pattern is not None else tuple(self.node.input[: len(self.inputs)])

    @property
    def stored_inputs(self) -> tuple[str, ...]:
        return tuple(name for name in self.inputs if name is not None)

    @property
    def activations(self) -> tuple[str, ...]:
        """Stored inputs that are computed at run time."""
        return tuple(name for name in self.stored_inputs if name not in self.index.constants)

    @property
    def is_product(self) -> bool:
        """Whether it multiplies two activations."""
        return self.node.op_type == "MatMul" and len(self.inputs) == 2

    @property
    def output(self) -> str:
        assert self.quantise is not None
        return self.quantise.output[0]

    @cached_property
    def output_params(self) -> QuantParams | None:
        return None if self.quantise is None else self.index.params(self.quantise)

    @cached_property
    def clamp(self) -> Clamp:
        """Bounds of the stored result: Relu and Clip bounds quantised as QuantizeLinear would."""
        assert self.output_params is not None
        quantisation = self.output_params.as_tensor()
        least, most = np.iinfo(self.output_params.dtype).min, np.iinfo(self.output_params.dtype).max
        low, high = least, most
        for node in (self.node, *self.epilogue):
            bounds = clip_bounds(self.index, node)
            if bounds is not None:
                low = max(low, _stored(bounds[0], quantisation, least, most))
                high = min(high, _stored(bounds[1], quantisation, least, most))
        return (low, max(low, high))

    @cached_property
    def weights(self) -> Weights | None:
        """The second input as stored integers; None when it is not a dequantised constant."""
        source = self.index.producer.get(self.node.input[1]) if len(self.node.input) > 1 else None
        if source is None or source.op_type != DEQUANTISE or source.input[0] not in self.index.constants:
            return None
        params = self.index.params(source)
        return None if params is None else Weights(self.index.constants[source.input[0]], params)


def sites(index: GraphIndex, held: Mapping[str, Layout] | None = None) -> Iterator[Site]:
    """Every operator that could be the centre of an engine node, in execution order.

    A QuantizeLinear is one only when it changes the quantisation of a stored tensor. `held` are layouts of tensors
    that operators with patterns of their own, such as cuboid attention, read or make.
    """
    layouts = Layouts(index, held)
    for node in index.nodes:
        if node.op_type in VIEWS or node.op_type == DEQUANTISE or _is_passing(index, node):
            continue
        if node.op_type == QUANTISE and not _dequantised(index, node.input[0]):
            continue
        yield _site(index, layouts, node)


def _is_passing(index: GraphIndex, node: NodeProto) -> bool:
    """Whether readers look through the operator: it moves stored elements, or gives them another scale."""
    if node.op_type in ("Mul", "Div"):
        ends = index.consumers[node.output[0]]
        return len(ends) == 1 and rescaled(index, ends[0]) is not None
    stored = index.dtype(node.input[0]) if node.op_type in LINKS else None
    return stored is not None and np.issubdtype(stored, np.integer) and is_link(index, node)


def clip_bounds(index: GraphIndex, node: NodeProto) -> tuple[float, float] | None:
    """Bounds of a Relu or of a Clip with constant bounds; None for anything else."""
    if node.op_type == "Relu":
        return (0.0, np.inf)
    if node.op_type != "Clip":
        return None
    bounds = []
    for position, missing in ((1, -np.inf), (2, np.inf)):
        name = node.input[position] if len(node.input) > position else ""
        if name and (name not in index.constants or index.constants[name].size != 1):
            return None
        bounds.append(float(index.constants[name].reshape(-1)[0]) if name else missing)
    return (bounds[0], bounds[1])


def reduced_axes(site: Site) -> tuple[int, ...] | None:
    """Axes of a reduction, sorted and not negative; None where they are computed or all."""
    node = site.node
    axes = attribute(node, "axes")
    if axes is None and len(node.input) > 1 and node.input[1]:
        found = site.index.constants.get(node.input[1])
        axes = None if found is None else found.reshape(-1).tolist()
    if axes is None:
        return None
    rank = len(site.index.shape(node.input[0]))
    return tuple(sorted(axis % rank for axis in axes))


def stored_quantisation(index: GraphIndex, tensor: str) -> Quantisation | None:
    """The int8 quantisation that the writer and all readers of a stored tensor agree on, else None."""
    found = stored_as(index, tensor)
    return found[0] if found is not None and found[1] == "int8" else None


def stored_as(index: GraphIndex, tensor: str) -> tuple[Quantisation, str] | None:
    """The same for int8, or int16 with the zero point 0, and which of them it is."""
    ends = _readers(index, tensor)
    producer = index.producer.get(tensor)
    if producer is not None and producer.op_type == QUANTISE:
        ends.append(producer)
    found = [index.params(node) for node in ends]
    if not found or any(p is None or not p.per_tensor or p.dtype not in STORED for p in found):
        return None
    agreed = {(p.as_tensor(), STORED[p.dtype]) for p in found if p is not None}
    quantisation, dtype = agreed.pop()
    return None if agreed or (dtype == "int16" and quantisation.zero_point) else (quantisation, dtype)


def _readers(index: GraphIndex, tensor: str) -> list[NodeProto]:
    """What dequantises a stored tensor, or what is read of it through operators that move elements."""
    ends: list[NodeProto] = []
    for node in index.consumers[tensor]:
        if node.op_type == DEQUANTISE:
            ends.append(node)
        elif node.op_type in LINKS:
            ends += _readers(index, node.output[0])
    return ends


def _site(index: GraphIndex, layouts: Layouts, node: NodeProto) -> Site:
    pattern = pattern_at(index, node)
    count = {"Add": 2, "Sub": 2, "Mul": 2, "Concat": len(node.input)}.get(node.op_type, 1)
    if node.op_type == "MatMul" and not _is_constant(index, node.input[1]):
        count = 2
    names = node.input[:count] if pattern is None else [pattern.source]
    held = node.op_type in _HOLDING and pattern is None
    inputs = tuple(_stored_input(index, name, constants=held) for name in names)
    if node.op_type == QUANTISE:
        return Site(index, layouts, node, inputs, (), node)
    epilogue: list[NodeProto] = []
    last = node
    while len(last.output) == 1 and index.is_leaf(last.output[0]):
        last = index.consumers[last.output[0]][0]
        if last.op_type == QUANTISE:
            return Site(index, layouts, node, inputs, tuple(epilogue), last, pattern)
        if last.op_type not in ACTIVATIONS or clip_bounds(index, last) is None:
            break
        epilogue.append(last)
    return Site(index, layouts, node, inputs, (), None, pattern)


def _stored_input(index: GraphIndex, name: str, *, constants: bool) -> str | None:
    """The stored tensor behind activation `name`."""
    if _dequantised(index, name) or (constants and _is_constant(index, name)):
        return index.producer[name].input[0]
    return None


def _is_constant(index: GraphIndex, name: str) -> bool:
    """Whether `name` is a dequantised constant."""
    source = index.producer.get(name)
    return source is not None and source.op_type == DEQUANTISE and source.input[0] in index.constants


def _dequantised(index: GraphIndex, name: str) -> bool:
    source = index.producer.get(name)
    return source is not None and source.op_type == DEQUANTISE and source.input[0] not in index.constants


def _stored(bound: float, quantisation: Quantisation, least: int, most: int) -> int:
    stored = np.rint(np.float32(bound) / np.float32(quantisation.scale)) + quantisation.zero_point
    return int(np.clip(stored, least, most))
