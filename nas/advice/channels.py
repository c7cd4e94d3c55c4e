"""Channels that have to change together: `ChannelGroup`, and ways to give one another width.

An addition makes its operands have equal channels, a depthwise convolution keeps those it reads. Tensors tied like this
form a group. A group whose width something else depends on (a concatenation, the model's input or output, an operator
that is not known here) is `fixed`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from ...export.onnx_model import GraphIndex, attribute
from .draft import Draft

_KEEPING = frozenset({
    "Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Tanh", "Softplus", "Mish", "Gelu",
    "Erf", "Identity", "Dropout", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
})  # fmt: skip
_TYING = frozenset({"Add", "Sub", "Mul", "Div"})
_FLATTENING = frozenset({"Reshape", "Flatten", "Squeeze", "ReduceMean"})


@dataclass(slots=True)
class ChannelGroup:
    """`makers` give the channels as their output axis, `readers` sum over them, `carriers` are depthwise."""

    channels: int
    fixed: bool = False
    makers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    carriers: list[str] = field(default_factory=list)
    reshapes: list[str] = field(default_factory=list)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The layers that a change of width changes."""
        return tuple(dict.fromkeys((*self.makers, *self.carriers, *self.readers)))


def channel_groups(draft: Draft) -> list[ChannelGroup]:
    """Every group of the model, in the order in which their channels are first made."""
    builder = _Builder(draft)
    for node in draft.nodes.values():
        builder.visit(node)
    return builder.groups()


def set_width(draft: Draft, group: ChannelGroup, channels: int) -> None:
    """Gives all layers of a group another width.

    Fewer: those with the largest weights stay (sum of magnitudes over the makers; Li et al. 2017, arXiv:1608.08710).
    More: the new ones are zero, so that the network computes what it did.
    """
    chosen = _chosen(draft, group, channels)
    for name in group.makers:
        node = draft.nodes[name]
        draft.set_constant(node, 1, _resized(draft.constants[node.input[1]], _output_axis(node), chosen, channels))
        if len(node.input) > 2 and node.input[2]:
            draft.set_constant(node, 2, _resized(draft.constants[node.input[2]], 0, chosen, channels))
    for name in group.carriers:
        node = draft.nodes[name]
        facts = draft.conv(node)
        assert facts is not None
        weight, bias = (_resized(values, 0, chosen, channels) for values in (facts.weight, facts.bias))
        draft.set_conv(node, replace(facts, weight=weight, bias=bias, groups=channels))
    for name in group.readers:
        node = draft.nodes[name]
        draft.set_constant(node, 1, _resized(draft.constants[node.input[1]], _input_axis(node), chosen, channels))
    for name in group.reshapes:
        draft.set_constant(draft.nodes[name], 1, np.array([1, -1], np.int64))


def _chosen(draft: Draft, group: ChannelGroup, channels: int) -> NDArray[np.intp]:
    size = np.zeros(group.channels)
    for name in group.makers:
        node = draft.nodes[name]
        weight = np.moveaxis(draft.constants[node.input[1]], _output_axis(node), 0)
        size += np.abs(weight).reshape(group.channels, -1).sum(1)
    kept = np.argsort(-size, kind="stable")[:channels]
    return np.sort(kept)


def _resized(values: NDArray, axis: int, chosen: NDArray[np.intp], channels: int) -> NDArray:
    kept = np.take(values, chosen, axis)
    missing = [(0, channels - len(chosen) if place == axis else 0) for place in range(values.ndim)]
    return np.pad(kept, missing)


def _output_axis(node: NodeProto) -> int:
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 1


def _input_axis(node: NodeProto) -> int:
    return 1 if node.op_type == "Conv" else 1 - _output_axis(node)


class _Builder:
    """Union of tensors with one set of channels."""

    def __init__(self, draft: Draft) -> None:
        self._draft, self._index = draft, draft.index
        self._parent: dict[str, str] = {}
        self._uses: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._fixed: set[str] = {*self._index.inputs, *self._index.outputs}
        self._order: list[str] = []

    def visit(self, node: NodeProto) -> None:
        match node.op_type:
            case "Conv":
                self._visit_conv(node)
            case "Gemm" | "MatMul" if node.input[1] in self._draft.constants and _is_plain(node, self._index):
                self._use("readers", node, node.input[0])
                self._use("makers", node, node.output[0])
            case kind if kind in _KEEPING:
                self._join(node.input[0], node.output[0])
            case kind if kind in _TYING and self._ties(node):
                for name in node.input:
                    if name not in self._draft.constants:
                        self._join(name, node.output[0])
            case kind if kind in _FLATTENING and self._flattens(node):
                self._join(node.input[0], node.output[0])
                if kind == "Reshape":
                    self._use("reshapes", node, node.output[0])
            case _:
                self._fixed.update((*node.input, *node.output))

    def groups(self) -> list[ChannelGroup]:
        members: dict[str, list[str]] = defaultdict(list)
        for name in self._order:
            members[self._root(name)].append(name)
        return [self._group(names) for names in members.values()]

    def _group(self, names: list[str]) -> ChannelGroup:
        found = ChannelGroup(self._index.shape(names[0])[1])
        found.fixed = any(name in self._fixed for name in names)
        for name in names:
            for kind, nodes in self._uses[name].items():
                getattr(found, kind).extend(nodes)
        return found

    def _visit_conv(self, node: NodeProto) -> None:
        facts = self._draft.conv(node)
        if facts is None or (facts.groups > 1 and not facts.is_depthwise):
            self._fixed.update((node.input[0], node.output[0]))
            self._know(node.input[0], node.output[0])
        elif facts.is_depthwise:
            self._join(node.input[0], node.output[0])
            self._use("carriers", node, node.output[0])
        else:
            self._use("readers", node, node.input[0])
            self._use("makers", node, node.output[0])

    def _ties(self, node: NodeProto) -> bool:
        """Operands are maps of equal channels or single numbers."""
        shapes = [self._index.shape(name) for name in node.input if name not in self._draft.constants]
        single = all(self._draft.constants[n].size == 1 for n in node.input if n in self._draft.constants)
        return single and len({shape[1:2] for shape in shapes}) == 1

    def _flattens(self, node: NodeProto) -> bool:
        """(1, C, 1, 1) or (1, C, H, W), averaged over positions, to (1, C) or (1, C, 1, 1)."""
        before, after = self._index.shape(node.input[0]), self._index.shape(node.output[0])
        averaged = node.op_type == "ReduceMean"
        whole = len(before) == 4 and (averaged or before[2:] == (1, 1))
        return (
            whole and after in (before[:2], (*before[:2], 1, 1)) and not (node.op_type == "Reshape" and len(after) > 2)
        )

    def _use(self, kind: str, node: NodeProto, tensor: str) -> None:
        self._know(tensor)
        self._uses[tensor][kind].append(node.name)

    def _join(self, first: str, second: str) -> None:
        self._know(first, second)
        self._parent[self._root(second)] = self._root(first)

    def _know(self, *names: str) -> None:
        for name in names:
            if name not in self._parent:
                self._parent[name] = name
                self._order.append(name)

    def _root(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name


def _is_plain(node: NodeProto, index: GraphIndex) -> bool:
    """(1, K) × (K, N) and nothing transposed but the weights."""
    return not attribute(node, "transA", 0) and len(index.shape(node.input[0])) == 2
