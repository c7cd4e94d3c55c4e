"""What a runtime does with operators that cannot matter: four readings of one graph.

A dead operator is one whose result reaches no output (looking back from the outputs), or one that sees nothing but
zeros (looking forward from the inputs). Which of them a runtime executes is the largest single source of error on
NAS-Bench-201, whose cells are full of both. A `zero` operator reads its input in the nominal reading only: in all
others its result is a constant, additions of it are dropped, and its input may lose its last reader.

    nominal   everything executes, as in eager frameworks
    backward  operators with unused results are gone, those fed by zeros still run
    forward   operators fed by zeros are gone, those with unused results still run
    live      both are gone
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum

from .graph import OperatorGraph, OperatorNode
from .operator import Kind, Operator
from .rewrite import without_unused


class Semantics(StrEnum):
    NOMINAL = "nominal"
    BACKWARD = "backward"
    FORWARD = "forward"
    LIVE = "live"


def apply_semantics(graph: OperatorGraph, semantics: Semantics) -> OperatorGraph:
    """The graph that a runtime of these semantics executes. Applying the same semantics again changes nothing."""
    return _TRANSFORMS[semantics](graph)


def nominal(graph: OperatorGraph) -> OperatorGraph:
    return graph


def backward(graph: OperatorGraph) -> OperatorGraph:
    """Without operators that no output depends on, where zeros depend on nothing."""
    return without_unused(_without_zeros(graph, propagate=False))


def forward(graph: OperatorGraph) -> OperatorGraph:
    """Without operators that read zeros only; their results are constants, and sums lose constant terms.

    What a convolution's bias makes of zeros is folded into the operators that follow.
    """
    return _without_unused_constants(_without_zeros(graph, propagate=True))


def live(graph: OperatorGraph) -> OperatorGraph:
    """What lies on a path of computed values from an input to an output."""
    return without_unused(forward(graph))


def is_connected(graph: OperatorGraph) -> bool:
    """True when some output depends on some input by more than zeros."""
    final = live(graph)
    return any(final.by_name[name].operator.executed if name in final.by_name else True for name in final.outputs)


def _without_zeros(graph: OperatorGraph, *, propagate: bool) -> OperatorGraph:
    """Zeros as constants; with `propagate`, so is everything that reads constants alone."""
    walk = _Walk(graph, propagate)
    for node in graph.nodes:
        walk.visit(node)
    return walk.graph()


class _Walk:
    """Rebuilds a graph in order. `_renamed` leads from sums that lost their other terms to the term that is left."""

    def __init__(self, graph: OperatorGraph, propagate: bool) -> None:
        self._source, self._propagate = graph, propagate
        self._renamed: dict[str, str] = {}
        self._constants: set[str] = {node.name for node in graph.nodes if not node.operator.executed}
        self._kept: list[OperatorNode] = []

    def visit(self, node: OperatorNode) -> None:
        inputs = tuple(self._renamed.get(name, name) for name in node.inputs)
        constant = [name in self._constants for name in inputs]
        if node.operator.kind == Kind.ZERO or (self._propagate and inputs and all(constant)):
            self._become_constant(node)
        elif node.operator.kind == Kind.ADD and any(constant):
            self._drop_terms(node, inputs, constant)
        else:
            self._kept.append(OperatorNode(node.name, node.operator, inputs))

    def graph(self) -> OperatorGraph:
        outputs = [self._renamed.get(name, name) for name in self._source.outputs]
        return OperatorGraph.of(self._kept, self._source.sources, outputs)

    def _become_constant(self, node: OperatorNode) -> None:
        operator = Operator(Kind.CONSTANT, (), node.operator.output, dtype=node.operator.dtype)
        self._constants.add(node.name)
        self._kept.append(OperatorNode(node.name, operator, ()))

    def _drop_terms(self, node: OperatorNode, inputs: tuple[str, ...], constant: list[bool]) -> None:
        """A sum without its constant terms: one of them alone if nothing else is left."""
        terms = [name for name, known in zip(inputs, constant, strict=True) if not known] or [inputs[0]]
        whole = all(self._shape(name) == node.operator.output for name in terms)
        if len(terms) == 1 and whole and not node.operator.weights and not node.operator.fused:
            self._renamed[node.name] = terms[0]
            return
        shapes = tuple(self._shape(name) for name in terms)
        self._kept.append(OperatorNode(node.name, replace(node.operator, inputs=shapes), tuple(terms)))

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._source.shape(name)


def _without_unused_constants(graph: OperatorGraph) -> OperatorGraph:
    """Constants that nobody reads are no part of the program."""
    read = set(graph.outputs).union(*(node.inputs for node in graph.nodes))
    kept = (node for node in graph.nodes if node.operator.executed or node.name in read)
    return OperatorGraph.of(kept, graph.sources, graph.outputs)


_TRANSFORMS: Mapping[Semantics, Callable[[OperatorGraph], OperatorGraph]] = {
    Semantics.NOMINAL: nominal,
    Semantics.BACKWARD: backward,
    Semantics.FORWARD: forward,
    Semantics.LIVE: live,
}
