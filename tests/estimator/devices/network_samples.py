"""Random graphs and devices whose truth is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lanefit.estimator.devices.graph_arrays import GraphCounts, count_graph
from lanefit.estimator.opgraph.graph import OperatorGraph, OperatorNode
from lanefit.estimator.opgraph.operator import Kind, Operator, Window

SHAPE = (1, 16, 8, 8)
CHOICES = ("conv1", "conv3", "pool")


def operator(choice: str, channels: int = 16) -> Operator:
    shape = (1, channels, 8, 8)
    if choice == "pool":
        return Operator(Kind.AVERAGE_POOL, (shape,), shape, Window.square(3, padding=1))
    if choice == "add":
        return Operator(Kind.ADD, (shape, shape), shape)
    size = 3 if choice == "conv3" else 1
    window = Window.square(size, padding=size // 2)
    return Operator(Kind.CONV, (shape,), shape, window, ((channels, channels, size, size),))


def branching_graph(seed: int, *, prefix: str = "n") -> OperatorGraph:
    """Two to six steps, each behind the last one or beside it and added to it."""
    generator = np.random.default_rng(seed)
    nodes, last = list[OperatorNode](), "input"
    for step in range(int(generator.integers(2, 7))):
        choice = str(generator.choice(CHOICES))
        source = last
        name = f"{prefix}{step}"
        nodes.append(OperatorNode(name, operator(choice), (source,)))
        if generator.random() < 0.4 and source != "input":
            nodes.append(OperatorNode(f"{name}_add", operator("add"), (name, source)))
            name = f"{name}_add"
        last = name
    return OperatorGraph.of(nodes, {"input": SHAPE}, [last])


def branching_counts(count: int, *, start: int = 0) -> list[GraphCounts]:
    return [count_graph(branching_graph(seed)) for seed in range(start, start + count)]


def additive_times(graphs: list[GraphCounts], overhead_us: float = 40.0) -> NDArray[np.float64]:
    """A device that does one operator after the other."""
    return np.array([overhead_us + sum(n * operator_time_us(op) for op, n in g.operators.items()) for g in graphs])


def operator_time_us(op: Operator) -> float:
    return 5.0 + op.macs / 5000 + (op.input_bytes + op.output_bytes) / 2000
