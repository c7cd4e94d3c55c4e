"""What screening sees of a network: its blocks, as chains of steps where they are such, or else as operator graphs.

Pieces and steps equal only themselves, so that what was prepared of one is found without comparing shapes. Whoever
makes them hands out the same object for equal blocks (`nas/pieces.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..export.graph import Graph, Node, Tensor
from ..kernels.element_types import input_bytes, input_name, output_bytes, output_name
from ..kernels.kernel import held_bytes
from ..kernels.ops import Add, Op


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """An operator that runs by itself; its output stage adds the block's input where it is `residual`."""

    op: Op
    residual: bool
    input_bytes: int
    output_bytes: int
    constant_bytes: int
    macs: int

    @classmethod
    def of(cls, op: Op, *, residual: bool = False) -> Step:
        return cls(op, residual, input_bytes(op), output_bytes(op), held_bytes(op), op.macs)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Steps that read each what the one before it gives. `carried`: the last one adds what the first one reads.

    `first` and `last` say where in a network the piece stands.
    """

    steps: tuple[Step, ...]
    carried: bool
    first: bool
    last: bool

    def build(self) -> Graph:
        """The chain as an operator graph."""
        first = self.steps[0].op
        tensors, nodes = {"input": Tensor("input", first.input, dtype=input_name(first))}, list[Node]()
        for number, step in enumerate(self.steps):
            _append(nodes, tensors, str(number), step.op, (list(tensors)[-1],))
        if self.carried:
            last = self.steps[-1].op
            _append(nodes, tensors, "sum", Add(last.output, output_name(last)), (list(tensors)[-1], "input"))
        return Graph(tuple(nodes), tensors, ("input",), (nodes[-1].output,))


@dataclass(frozen=True, slots=True, eq=False)
class GraphPiece:
    """A block of any other form: `build` gives its graph, with one input and one output."""

    build: Callable[[], Graph]
    first: bool
    last: bool


Piece: TypeAlias = Chain | GraphPiece


def _append(nodes: list[Node], tensors: dict[str, Tensor], name: str, op: Op, inputs: tuple[str, ...]) -> None:
    tensors[name] = Tensor(name, op.output, dtype=output_name(op))
    nodes.append(Node(name, op, inputs, name))
