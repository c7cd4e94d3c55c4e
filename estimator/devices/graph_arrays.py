"""Operator graphs as counts: how often each operator occurs, and in what surroundings.

Surroundings are Weisfeiler-Lehman labels (Shervashidze et al., JMLR 12, 2011): the label of a node at level h is a
hash of its own operator and the labels at level h − 1 of the nodes it reads ("before") or of those that read it
("after"). Two graphs that differ in names or in the order of their nodes alone give equal counts.

Element-wise functions of one operand belong to the operator that they precede or follow, and a chain of additions is
one sum, so that one level of labels is one step of arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ..opgraph.graph import OperatorGraph, OperatorNode
from ..opgraph.operator import ACTIVATIONS, Kind, Operator

LEVELS = 3
_MASK = (1 << 64) - 1
_SOURCE, _OUTPUT, _BEFORE, _AFTER = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5)


@dataclass(frozen=True, slots=True)
class GraphCounts:
    """One graph: its operators, and the labels of its nodes at levels 0 to `LEVELS` − 1, each with its count."""

    operators: Mapping[Operator, int]
    surroundings: tuple[Mapping[int, int], ...]


def count_graph(graph: OperatorGraph) -> GraphCounts:
    """The counts of one graph; constants are not executed and not counted, but what reads them knows it."""
    labels, inputs, outputs = _contracted(graph)
    readers: dict[str, list[str]] = {name: [] for name in labels}
    for name, sources in inputs.items():
        for source in sources:
            if source in readers:
                readers[source].append(name)
    final = set(outputs)
    before = after = labels
    levels = [Counter(labels.values())]
    for _ in range(1, LEVELS):
        before = {name: _mix(labels[name], _BEFORE, [before.get(s, _SOURCE) for s in inputs[name]]) for name in labels}
        after = {
            name: _mix(labels[name], _AFTER, [after[r] for r in readers[name]] + [_OUTPUT] * (name in final))
            for name in labels
        }
        levels.append(Counter(before.values()) + Counter(after.values()))
    return GraphCounts(Counter(graph.operators), tuple(levels))


def _contracted(graph: OperatorGraph) -> tuple[dict[str, int], dict[str, tuple[str, ...]], list[str]]:
    """Labels and inputs of the nodes that stay, after element-wise functions and inner sums joined their neighbours."""
    consumers, labels = graph.consumers, dict[str, int]()
    inputs: dict[str, tuple[str, ...]] = {}
    pending: dict[str, tuple[tuple[str, ...], int]] = {}
    outputs = set(graph.outputs)
    for node in graph.nodes:
        sources, label = list[str](), _label(node.operator)
        for name in node.inputs:
            through, absorbed = pending.get(name, ((name,), 0))
            sources += through
            label = (label + absorbed) & _MASK
        if _joins_reader(node, graph, consumers[node.name]) and node.name not in outputs:
            pending[node.name] = (tuple(sources), label)
            continue
        labels[node.name], inputs[node.name] = label, tuple(sources)
    return labels, inputs, [name for name in graph.outputs if name in labels]


def _joins_reader(node: OperatorNode, graph: OperatorGraph, readers: tuple[str, ...]) -> bool:
    """An element-wise function or an inner sum with one reader that can take it along."""
    if len(readers) != 1 or node.operator.weights:
        return False
    if node.operator.kind in ACTIVATIONS:
        return len(node.inputs) == 1
    reader = graph.by_name[readers[0]]
    return node.operator.kind == Kind.ADD and reader.operator.kind == Kind.ADD


@lru_cache(maxsize=65536)
def _label(operator: Operator) -> int:
    return int(operator.digest()[:16], 16)


def _mix(label: int, salt: int, neighbours: Iterable[int]) -> int:
    """A label of a node and its neighbours, whatever their order."""
    total = 0
    for neighbour in neighbours:
        total += _scramble(neighbour ^ salt)
    return _scramble((label + salt + 3 * total) & _MASK)


def _scramble(value: int) -> int:
    """The finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
