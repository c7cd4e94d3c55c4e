"""Which operators a runtime executes in one pass: rules as data, found by probes or known, applied to a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...common.errors import EstimatorError
from .graph import OperatorGraph, OperatorNode
from .operator import ACTIVATIONS, CONVOLUTIONS, POOLS, Kind

_NO_EPILOGUES = frozenset({*CONVOLUTIONS, *POOLS, Kind.LINEAR, Kind.MATMUL, Kind.CONSTANT})


@dataclass(frozen=True, slots=True)
class FusionRules:
    """Pairs (a, b): b joins the pass of an operator a, or of a pass that ends in a. Triples (a, "add", b): the residual
    sum of a's result and another tensor, and the activation b, join the pass of a, also where no pair says so.

    Raises:
        EstimatorError: a rule whose later part has a window or multiplies matrices, which no pass can end in.
    """

    pairs: frozenset[tuple[str, str]] = frozenset()
    triples: frozenset[tuple[str, str, str]] = frozenset()

    def __post_init__(self) -> None:
        for rule in (*self.pairs, *self.triples):
            if _NO_EPILOGUES.intersection(rule[1:]):
                raise EstimatorError(f"{' and '.join(rule)} cannot be one pass", hint="only element-wise parts join")

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]] = (), triples: Iterable[tuple[str, str, str]] = ()) -> FusionRules:
        return cls(frozenset(pairs), frozenset(triples))

    def as_dict(self) -> dict[str, Any]:
        return {
            "pairs": sorted([str(kind) for kind in pair] for pair in self.pairs),
            "triples": sorted([str(kind) for kind in triple] for triple in self.triples),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> FusionRules:
        """Raises `EstimatorError` for anything that `as_dict` would not write."""
        return cls(frozenset(_rules(document, "pairs", 2)), frozenset(_rules(document, "triples", 3)))


def _rules(document: Mapping[str, Any], key: str, length: int) -> list[Any]:
    found = document.get(key)
    for rule in found if isinstance(found, list) else [found]:
        whole = isinstance(rule, list) and len(rule) == length and all(isinstance(kind, str) for kind in rule)
        if not whole and found != []:
            raise EstimatorError(f"{rule!r} is no fusion rule", where=key, hint=f"lists of {length} kinds")
    return [tuple(rule) for rule in document[key]]


NO_FUSION = FusionRules()
EPILOGUES = FusionRules.of(
    ((kind, activation) for kind in (*CONVOLUTIONS, Kind.LINEAR) for activation in (*ACTIVATIONS, Kind.BATCH_NORM)),
    ((kind, Kind.ADD, Kind.RELU) for kind in CONVOLUTIONS),
)
"""What nearly every inference runtime does: activations behind convolutions, residual sums with their ReLU."""


def fuse(graph: OperatorGraph, rules: FusionRules) -> OperatorGraph:
    """The graph with joined operators; each stands where its last part stood and carries that part's name.

    A part joins only the sole reader of a result that is no output and has the same shape. The other operands of a sum
    become inputs of the joined operator.
    """
    passes = _Passes(graph, rules)
    for node in graph.nodes:
        passes.visit(node)
    return OperatorGraph.of(passes.nodes.values(), graph.sources, graph.outputs)


class _Passes:
    """Joined nodes by name of their last part, in execution order."""

    def __init__(self, graph: OperatorGraph, rules: FusionRules) -> None:
        self._graph, self._rules = graph, rules
        self.nodes: dict[str, OperatorNode] = {}

    def visit(self, node: OperatorNode) -> None:
        joined = self._paired(node) or self._tripled(node) or node
        self.nodes[node.name] = joined

    def _paired(self, node: OperatorNode) -> OperatorNode | None:
        for host in self._hosts(node):
            if (_last(host), node.operator.kind) in self._rules.pairs:
                return _joined(self.nodes.pop(host.name), node)
        return None

    def _tripled(self, node: OperatorNode) -> OperatorNode | None:
        """`node` as the activation behind a residual sum."""
        for total in self._hosts(node):
            if total.operator.kind != Kind.ADD or total.operator.fused:
                continue
            for host in self._hosts(total):
                if (_last(host), total.operator.kind, node.operator.kind) in self._rules.triples:
                    both = _joined(self.nodes.pop(host.name), self.nodes.pop(total.name))
                    return _joined(both, node)
        return None

    def _hosts(self, node: OperatorNode) -> list[OperatorNode]:
        """What `node` may join, the latest first: passes that give its shape to it alone."""
        places = {name: place for place, name in enumerate(self.nodes)}
        names = sorted({name for name in node.inputs if name in places}, key=places.__getitem__, reverse=True)
        return [self.nodes[name] for name in names if self._fits(name, node)]

    def _fits(self, name: str, node: OperatorNode) -> bool:
        alone = self._graph.consumers[name] == (node.name,) and name not in self._graph.outputs
        return alone and self._graph.shape(name) == node.operator.output and self.nodes[name].operator.executed


def _last(node: OperatorNode) -> str:
    return (node.operator.kind, *node.operator.fused)[-1]


def _joined(host: OperatorNode, part: OperatorNode) -> OperatorNode:
    """`part` done in the pass of `host`, under the name of `part`."""
    others = [place for place, name in enumerate(part.inputs) if name != host.name]
    operator = replace(
        host.operator,
        inputs=(*host.operator.inputs, *(part.operator.inputs[place] for place in others)),
        weights=(*host.operator.weights, *part.operator.weights),
        fused=(*host.operator.fused, part.operator.kind, *part.operator.fused),
    )
    return OperatorNode(part.name, operator, (*host.inputs, *(part.inputs[place] for place in others)))
