"""`OperatorGraph`: named operators in execution order, as a runtime would execute them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...common.errors import ModelError
from ...common.files import stable_hash
from .operator import Operator, Shape


@dataclass(frozen=True, slots=True)
class OperatorNode:
    """One operator of a graph. Its name is also the name of its result; `inputs` name results or sources."""

    name: str
    operator: Operator
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class OperatorGraph:
    """Operators in an order in which they can be executed.

    sources: the graph's inputs by name, with their shapes.
    outputs: names of the results that leave the graph. Nodes that no output depends on are allowed: a runtime may
        execute them (see `semantics`).

    Raises:
        ModelError: a name given twice, a node that reads what no earlier node gives or reads it with another shape.
    """

    nodes: tuple[OperatorNode, ...]
    sources: Mapping[str, Shape]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = dict(self.sources)
        for node in self.nodes:
            _check(node, shapes)
            shapes[node.name] = node.operator.output
        for name in self.outputs:
            if name not in shapes:
                raise ModelError(f"the output {name!r} is produced by nothing")

    @classmethod
    def of(cls, nodes: Iterable[OperatorNode], sources: Mapping[str, Shape], outputs: Sequence[str]) -> OperatorGraph:
        return cls(tuple(nodes), dict(sources), tuple(outputs))

    @cached_property
    def operators(self) -> tuple[Operator, ...]:
        """What is executed, in order; constants are not."""
        return tuple(node.operator for node in self.nodes if node.operator.executed)

    @cached_property
    def by_name(self) -> Mapping[str, OperatorNode]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the nodes that read each source and each result, in order."""
        readers: dict[str, list[str]] = {name: [] for name in (*self.sources, *self.by_name)}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node.name)
        return {name: tuple(names) for name, names in readers.items()}

    def shape(self, name: str) -> Shape:
        return self.sources[name] if name in self.sources else self.by_name[name].operator.output

    @property
    def macs(self) -> int:
        return sum(operator.macs for operator in self.operators)

    @property
    def weight_bytes(self) -> int:
        return sum(operator.weight_bytes for operator in self.operators)

    @property
    def traffic_bytes(self) -> int:
        """Bytes that operators read and write when nothing stays in a cache."""
        return sum(op.input_bytes + op.weight_bytes + op.output_bytes for op in self.operators)

    def as_dict(self) -> dict[str, Any]:
        """The canonical form: names are replaced by positions, since they do not change what is executed."""
        numbers = {name: -1 - index for index, name in enumerate(self.sources)}
        numbers.update({node.name: index for index, node in enumerate(self.nodes)})
        return {
            "sources": [list(shape) for shape in self.sources.values()],
            "nodes": [[node.operator.as_dict(), [numbers[name] for name in node.inputs]] for node in self.nodes],
            "outputs": [numbers[name] for name in self.outputs],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> OperatorGraph:
        """The graph with names of its own (`input0`, `node0`, ...); `ModelError` when `document` is none."""
        try:
            return _from_dict(document)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelError(f"not an operator graph: {error}") from error

    def digest(self) -> str:
        """Equal for graphs that differ in names alone."""
        return stable_hash(self.as_dict())


def _check(node: OperatorNode, shapes: Mapping[str, Shape]) -> None:
    where = f"node {node.name!r}"
    if node.name in shapes:
        raise ModelError("two values have this name", where=where)
    if len(node.inputs) != len(node.operator.inputs):
        raise ModelError(f"{len(node.inputs)} inputs for {len(node.operator.inputs)} shapes", where=where)
    for name, shape in zip(node.inputs, node.operator.inputs, strict=True):
        if shapes.get(name) != shape:
            raise ModelError(f"reads {name!r} as {shape}, which is {shapes.get(name, 'not there yet')}", where=where)


def _from_dict(document: Mapping[str, Any]) -> OperatorGraph:
    sources = {f"input{i}": tuple(int(n) for n in shape) for i, shape in enumerate(document["sources"])}
    names = [f"node{i}" for i in range(len(document["nodes"]))]

    def name_of(number: int) -> str:
        return f"input{-1 - number}" if number < 0 else names[number]

    nodes = [
        OperatorNode(name, Operator.from_dict(operator), tuple(name_of(n) for n in inputs))
        for name, (operator, inputs) in zip(names, document["nodes"], strict=True)
    ]
    return OperatorGraph.of(nodes, sources, [name_of(n) for n in document["outputs"]])
