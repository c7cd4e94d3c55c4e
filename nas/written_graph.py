"""Architectures as they are written down: skip connections as operators of their own.

The optimised graph of a cell has no trace of an identity, but runtimes that keep a network's modules apart pay for
each of them: on the TX2 of HW-NAS-Bench a cell `input → skip → skip → output` takes 1.06 ms more than `input → skip →
output`. Whether a device is one of these is settled by fit, see `estimator.devices.network_model`.
"""

from __future__ import annotations

from dataclasses import replace

from ..common.errors import UnknownNameError
from ..estimator.devices.graph_arrays import GraphCounts, count_graph
from ..estimator.opgraph.graph import OperatorGraph, OperatorNode
from ..estimator.opgraph.operator import Kind, Operator
from ..estimator.opgraph.semantics import Semantics, apply_semantics
from ..models.architecture import Architecture
from ..models.cell_string import POOL, SKIP
from ..models.nas_bench_201 import FAMILY_NAME
from .operator_bridge import architecture_graph

READINGS = tuple(f"{semantics.value}{suffix}" for semantics in Semantics for suffix in ("", "+identities"))
"""How a device may read an architecture: semantics of dead operators, with or without identities as operators."""

_CELL = "_cell"


def written_graph(architecture: Architecture, *, input_channels: int = 3, classes: int = 10) -> OperatorGraph:
    """The operator graph with a `copy` for every skip connection of a cell; other families have none to add."""
    if architecture.family != FAMILY_NAME:
        return architecture_graph(architecture, input_channels=input_channels, classes=classes)
    skips = {name for name, operation in architecture.knobs if operation == SKIP}
    # A pooling keeps the shape as a skip connection does, but is a node of its own: the wiring is that of its graph.
    pooled = {name: POOL if name in skips else operation for name, operation in architecture.knobs}
    stand_in = architecture_graph(
        Architecture.of(FAMILY_NAME, pooled), input_channels=input_channels, classes=classes
    )  # fmt: skip
    edges = {f"edge{name.removeprefix('node').replace('_from', '')}" for name in skips}
    return replace(stand_in, nodes=tuple(_copied(node, edges) for node in stand_in.nodes))


def _copied(node: OperatorNode, edges: set[str]) -> OperatorNode:
    cell, _, edge = node.name.rpartition("_")
    if edge not in edges or _CELL not in cell:
        return node
    old = node.operator
    return replace(node, operator=Operator(Kind.COPY, old.inputs, old.output, dtype=old.dtype))


def read_architecture(architecture: Architecture, reading: str, *, classes: int = 10) -> GraphCounts:
    """The counts of what a device of this reading executes.

    Raises:
        UnknownNameError: a reading that is none of `READINGS`.
    """
    if reading not in READINGS:
        raise UnknownNameError("reading", reading, READINGS)
    semantics, _, identities = reading.partition("+")
    build = written_graph if identities else architecture_graph
    return count_graph(apply_semantics(build(architecture, classes=classes), Semantics(semantics)))
