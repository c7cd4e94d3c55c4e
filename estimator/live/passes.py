"""What a runtime makes of a graph that it goes on to optimise by itself, as its probes have told.

Runtimes whose optimised graph can be read (ONNX Runtime) need none of this: their graph is what runs. Of the others
only the graph that they are given is known. Probes (`rules.find_rules`) say which of its operators they leave out and
which they execute in the pass of the operator before: such operators are marked, have costs of their own, and are never
cut off from their pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from onnx import numpy_helper

from ..opgraph.fusion import FusionRules
from ..opgraph.onnx_operators import kind_of_name
from ..opgraph.operator import Kind, convolution_kind
from ..opgraph.semantics_probes import SemanticsVerdict
from .executed import ExecutedGraph, ExecutedNode, ExecutedOperator
from .work import JOINED

if TYPE_CHECKING:
    from .rules import DeviceRules


def is_joined(operator: ExecutedOperator) -> bool:
    """Whether the operator runs in the pass of one before it."""
    return bool(operator.attribute(JOINED))


def kind_of(operator: ExecutedOperator) -> str:
    """The kind that fusion rules speak of; an operator without one keeps its ONNX name."""
    name = operator.kind.rsplit(".", 1)[-1]
    weights = next((v for v in operator.inputs[1:] if v is not None and v.constant), None)
    if name == "Conv" and weights is not None and operator.inputs[0] is not None:
        groups = (operator.integers("group") or (1,))[0]
        return str(convolution_kind(groups, operator.inputs[0].shape[1]))
    if name == "Gemm":
        return str(Kind.LINEAR)
    return kind_of_name(name)


def with_passes(graph: ExecutedGraph, rules: DeviceRules | None) -> ExecutedGraph:
    """The same nodes, those marked that run in the pass of another; nothing changes where the graph is what runs."""
    if rules is None or rules.graph_is_known:
        return graph
    return replace(graph, nodes=_Passes(graph, rules.fusion).nodes())


def without_dead(graph: ExecutedGraph, rules: DeviceRules | None) -> ExecutedGraph:
    """The nodes that run, for prediction; the model stays whole. Answers that stayed open leave nothing out."""
    if rules is None or rules.graph_is_known:
        return graph
    return replace(graph, nodes=_living(graph, rules.semantics))


class _Passes:
    """Marks by position, in execution order: a part joins the sole reader's pass, as in `fusion.fuse`."""

    def __init__(self, graph: ExecutedGraph, rules: FusionRules) -> None:
        self._graph, self._rules = graph, rules
        self._maker = {name: place for place, node in enumerate(graph.nodes) for name in node.outputs if name}
        self._joined: set[int] = set()
        for place in range(len(graph.nodes)):
            self._visit(place)

    def nodes(self) -> tuple[ExecutedNode, ...]:
        return tuple(_marked(node) if i in self._joined else node for i, node in enumerate(self._graph.nodes))

    def _visit(self, place: int) -> None:
        kind = kind_of(self._graph.nodes[place].operator)
        for host in self._hosts(place):
            if (self._kind(host), kind) in self._rules.pairs:
                self._joined.add(place)
                return
        for total in self._hosts(place):
            if self._kind(total) != Kind.ADD or total in self._joined:
                continue
            if any((self._kind(host), Kind.ADD, kind) in self._rules.triples for host in self._hosts(total)):
                self._joined |= {total, place}
                return

    def _kind(self, place: int) -> str:
        return kind_of(self._graph.nodes[place].operator)

    def _hosts(self, place: int) -> list[int]:
        """Nodes that give this one its shape and have no other reader, the latest first."""
        node = self._graph.nodes[place]
        names = [n for n in node.inputs if n in self._maker and self._fits(n, node)]
        return sorted({self._maker[name] for name in names}, reverse=True)

    def _fits(self, name: str, node: ExecutedNode) -> bool:
        alone = len(self._graph.users[name]) == 1 and name not in self._graph.outputs
        return alone and self._graph.values[name].shape == node.operator.outputs[0].shape


def _marked(node: ExecutedNode) -> ExecutedNode:
    attributes = (*node.operator.attributes, (JOINED, "1"))
    return replace(node, operator=replace(node.operator, attributes=attributes))


def _living(graph: ExecutedGraph, semantics: SemanticsVerdict) -> tuple[ExecutedNode, ...]:
    gone = {name for name, answer in semantics.answers.items() if answer.holds is False}
    products, nodes = _products_with_zero(graph), list(graph.nodes)
    if "runs_zero_fed" in gone:
        zeros = _zeros(graph, products)
        nodes = [node for node in nodes if not zeros.issuperset(filter(None, node.outputs))]
    if "runs_equal_twice" in gone:
        nodes = _merged(nodes)
    if "runs_unused" in gone:
        nodes = _needed(nodes, graph.outputs, products if "runs_dead_ends" in gone else frozenset())
    return tuple(nodes)


def _products_with_zero(graph: ExecutedGraph) -> frozenset[str]:
    zeros = {t.name for t in graph.model.graph.initializer if not numpy_helper.to_array(t).any()}
    return frozenset(n.outputs[0] for n in graph.nodes if n.operator.kind == "Mul" and zeros.intersection(n.inputs))


def _zeros(graph: ExecutedGraph, products: frozenset[str]) -> set[str]:
    """Tensors that are computed from products with zero alone."""
    found = set(products)
    for node in graph.nodes:
        data = [name for name in node.inputs if name and not graph.values[name].constant]
        if data and found.issuperset(data):
            found.update(node.outputs)
    return found


def _merged(nodes: list[ExecutedNode]) -> list[ExecutedNode]:
    """Equal operators of equal inputs once; what read the others reads the first."""
    same: dict[str, str] = {}
    first: dict[tuple[object, ...], ExecutedNode] = {}
    for node in nodes:
        inputs = tuple(same.get(name, name) for name in node.inputs)
        kept = first.setdefault((node.operator.digest, *inputs), replace(node, inputs=inputs))
        same.update(zip(node.outputs, kept.outputs, strict=True))
    return list(first.values())


def _needed(nodes: list[ExecutedNode], outputs: tuple[str, ...], ends: frozenset[str]) -> list[ExecutedNode]:
    """Nodes that some output depends on; a product with zero depends on nothing where `ends` says so."""
    needed, kept = set(outputs), list[ExecutedNode]()
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            if not ends.intersection(node.outputs):
                needed.update(node.inputs)
    return kept[::-1]
