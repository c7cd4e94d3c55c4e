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
_GELU_PARTS = 5


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


def compose_gelu(graph: OperatorGraph) -> OperatorGraph:
    """One "gelu" in place of x × ½ × (1 + erf(x ÷ √2)) written as five operators, as exporters of old opsets do."""
    absorbed: dict[str, str] = {}
    for node in graph.nodes:
        if node.operator.kind == "Erf" and (parts := _gelu_parts(graph, node)) is not None:
            source, members, last = parts
            absorbed.update(dict.fromkeys(members, ""))
            absorbed[last] = source
    kept = (_composed(node, absorbed) for node in graph.nodes if absorbed.get(node.name, node.name))
    return OperatorGraph.of(kept, graph.sources, graph.outputs)


def _composed(node: OperatorNode, absorbed: Mapping[str, str]) -> OperatorNode:
    if node.name not in absorbed:
        return node
    shape, dtype = node.operator.output, node.operator.dtype
    return OperatorNode(node.name, Operator(Kind.GELU, (shape,), shape, dtype=dtype), (absorbed[node.name],))


def _gelu_parts(graph: OperatorGraph, erf: OperatorNode) -> tuple[str, set[str], str] | None:
    """Source, members and last member of the GELU around an error function; None where other readers look inside."""
    scaled = graph.by_name.get(erf.inputs[0])
    if scaled is None or not _is_scaling(scaled.operator):
        return None
    source, members, at = scaled.inputs[0], {scaled.name, erf.name}, erf
    halves = {name for name in graph.consumers[source] if _is_scaling(graph.by_name[name].operator)} - members
    products = 0
    while (following := _only_reader(graph, at)) is not None and len(members) < _GELU_PARTS:
        operands = set(following.inputs) - {at.name}
        whole = operands <= {source} or (operands <= halves and all(len(graph.consumers[n]) == 1 for n in operands))
        if not whole or following.operator.kind not in (Kind.ADD, Kind.MUL) or following.operator.weights:
            break
        products += bool(operands)
        members |= {following.name, *(operands - {source})}
        at = following
    inside = members - {at.name}
    leaving = any(set(graph.consumers[name]) - members or name in graph.outputs for name in inside)
    return None if len(members) != _GELU_PARTS or products != 1 or leaving else (source, members, at.name)


def _only_reader(graph: OperatorGraph, node: OperatorNode) -> OperatorNode | None:
    readers = graph.consumers[node.name]
    return graph.by_name[readers[0]] if len(readers) == 1 and node.name not in graph.outputs else None


def _is_scaling(operator: Operator) -> bool:
    return operator.kind in (Kind.MUL, Kind.DIV) and len(operator.inputs) == 1 and not operator.weights
