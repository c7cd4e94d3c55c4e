"""Cuboid attention in a QDQ model: where it stands, why the engine does not take it, and its part of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from onnx import NodeProto

from ..common.errors import UnsupportedError
from ..kernels.cuboid_quantise import Quantised, Ranges, quantise_ranges
from .attention import stored_ranges
from .cuboid_graph import attention_op
from .cuboid_pattern import CuboidMatch, find_cuboid_attention, seen_inside
from .graph import Node, Quantisation, Tensor
from .onnx_model import DEQUANTISE, QUANTISE, GraphIndex
from .site_maps import Piece
from .sites import stored_quantisation


@dataclass(frozen=True)
class AttentionSite:
    """One layer with the quantisation around it; its Softmax gives it its name."""

    index: GraphIndex
    match: CuboidMatch
    ranges: Ranges | None

    @property
    def name(self) -> str:
        return self.match.softmax

    @cached_property
    def stored_inputs(self) -> tuple[str, ...] | None:
        """The int8 tensors that it reads; None where one is not a dequantised tensor."""
        nodes = [self.index.producer.get(name) for name in self.match.inputs]
        found = [node.input[0] for node in nodes if node is not None and node.op_type == DEQUANTISE]
        return tuple(found) if len(found) == len(nodes) else None

    @cached_property
    def quantises(self) -> tuple[NodeProto, ...] | None:
        """The QuantizeLinear of each of its results; None where something else reads one."""
        found = [self.index.consumers[name] for name in self.match.outputs if self.index.is_leaf(name)]
        nodes = [readers[0] for readers in found if readers[0].op_type == QUANTISE]
        return tuple(nodes) if len(nodes) == len(self.match.outputs) else None

    @property
    def stored_outputs(self) -> tuple[str, ...]:
        return tuple(node.output[0] for node in self.quantises or ())

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the operators that one engine node replaces, the Softmax first."""
        inner = [name for name in self.match.nodes if name != self.name]
        return (self.name, *inner, *(node.name for node in self.quantises or ()))

    def quantisation(self, tensor: str) -> Quantisation:
        found = stored_quantisation(self.index, tensor)
        assert found is not None
        return found

    @cached_property
    def quantised(self) -> Quantised:
        """The layer in integers, with the model's own scales of what enters and leaves it."""
        assert self.ranges is not None
        assert self.stored_inputs is not None
        names = ("input", "global_input", "output", "global_output")
        sides = [*self.stored_inputs, *([None] * (2 - len(self.stored_inputs)))]
        sides += [*self.stored_outputs, *([None] * (2 - len(self.stored_outputs)))]
        ends = {name: self.quantisation(side) for name, side in zip(names, sides, strict=True) if side}
        return quantise_ranges(
            self.match.parameters, self.ranges, {name: (q.scale, q.zero_point) for name, q in ends.items()}
        )


AttentionRule: TypeAlias = Callable[[AttentionSite], str | None]


def attention_sites(index: GraphIndex) -> Iterator[AttentionSite]:
    """Every cuboid-attention layer of a canonical QDQ model."""
    if not any(node.op_type == "Softmax" for node in index.nodes):
        return
    ranges = stored_ranges(index.model)
    for match in find_cuboid_attention(index.model)[0]:
        yield AttentionSite(index, match, ranges.get(match.softmax))


def attention_ends(site: AttentionSite) -> str | None:
    """Cuboid attention reads and gives int8 tensors with one constant scale and zero point."""
    if site.stored_inputs is None:
        return f"{' or '.join(site.match.inputs)} is a float tensor"
    if site.quantises is None:
        return f"{' or '.join(site.match.outputs)} is used as float"
    for name in (*site.stored_inputs, *site.stored_outputs):
        if stored_quantisation(site.index, name) is None:
            return f"{name} is {site.index.dtype(name)} or has several scales"
    return None


def attention_inside(site: AttentionSite) -> str | None:
    """Nothing but cuboid attention reads what it computes on the way."""
    return seen_inside(site.index, site.match)


def attention_ranges(site: AttentionSite) -> str | None:
    """Cuboid attention needs the ranges of its intermediates, which lanefit's quantisation stores with the model."""
    return f"none for {site.name}" if site.ranges is None else None


def attention_limits(site: AttentionSite) -> str | None:
    """Padding, projections and scales of cuboid attention are those that its integer form has."""
    try:
        attention_piece(site)
    except UnsupportedError as error:
        return error.what
    return None


ATTENTION_RULES: tuple[AttentionRule, ...] = (attention_ends, attention_inside, attention_ranges, attention_limits)


def attention_piece(site: AttentionSite) -> Piece:
    """The graph node of a layer that the rules have let pass. Leaves of global vectors are chosen for an engine later.

    Raises:
        UnsupportedError: the layer has no integer form.
    """
    assert site.ranges is not None
    assert site.stored_inputs is not None
    layer = site.quantised.layer
    op = attention_op(site.match.parameters, global_vectors=site.ranges.vectors)
    host, vectors = (*op.size, op.channels), (op.global_vectors, op.channels)
    tensors = []
    for names in (site.stored_inputs, site.stored_outputs):
        for name, shape, outside in zip(names, (op.input, (1, *vectors)), (host, vectors), strict=False):
            tensors.append(Tensor(name, shape, site.quantisation(name), outside, channels_last=True))
    output, *extra = site.stored_outputs
    node = Node(site.name, op, site.stored_inputs, output, source=site.members, extra=tuple(extra))
    return Piece((node,), tuple(tensors), {node.name: layer})
