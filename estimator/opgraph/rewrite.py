"""Rewrites of operator graphs that keep what is computed: merging equal operators, dropping unused ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .graph import OperatorGraph, OperatorNode
from .operator import Kind, Operator

_DETERMINED: dict[str, int] = {
    Kind.RELU: 1, Kind.SIGMOID: 1, Kind.TANH: 1, Kind.ZERO: 1, Kind.MAX_POOL: 1, Kind.AVERAGE_POOL: 1,
    Kind.GLOBAL_POOL: 1, Kind.ADD: 2, Kind.MUL: 2,
}  # fmt: skip
"""Kinds that do one thing to this many inputs: of all others, equal shapes do not mean equal results."""


def merge_equal(graph: OperatorGraph) -> OperatorGraph:
    """One operator in place of several that do the same to the same values.

    Optimising runtimes and exporters do this (common subexpressions); eager ones execute all. Operators with weights or
    with settings that their shapes do not show (a slice's offset, the bounds of a clip) are kept apart.
    """
    first: dict[tuple[Operator, tuple[str, ...]], str] = {}
    renamed: dict[str, str] = {}
    kept: list[OperatorNode] = []
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        key = (node.operator, inputs)
        determined = not node.operator.weights and _DETERMINED.get(node.operator.kind) == len(inputs)
        if determined and node.name not in graph.outputs and key in first:
            renamed[node.name] = first[key]
            continue
        first.setdefault(key, node.name)
        kept.append(OperatorNode(node.name, node.operator, inputs))
    return OperatorGraph.of(kept, graph.sources, graph.outputs)


def without_unused(graph: OperatorGraph) -> OperatorGraph:
    """Only what some output depends on."""
    wanted = reachable(graph.outputs, {node.name: node.inputs for node in graph.nodes})
    return OperatorGraph.of((node for node in graph.nodes if node.name in wanted), graph.sources, graph.outputs)


def reachable(starts: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    """`starts` and everything that `edges` lead to from there."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(edges.get(name, ()))
    return found
