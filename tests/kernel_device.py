"""A device that can be computed: its kernels follow a law with tiles, waves and a noise of one per cent."""

import numpy as np
from numpy.typing import NDArray

from lanefit.estimator.opgraph.graph import OperatorGraph, OperatorNode
from lanefit.estimator.opgraph.operator import Kind, Operator, Window


def convolution(
    batch: int, channels: int, extent: int, filters: int, kernel: int = 3, stride: int = 1, *,
    depthwise: bool = False, dtype: str = "int8",
) -> Operator:  # fmt: skip
    out = -(-extent // stride)
    groups = channels if depthwise else 1
    kind = Kind.DEPTHWISE if depthwise else Kind.CONV
    filters = channels if depthwise else filters
    return Operator(
        kind, ((batch, channels, extent, extent),), (batch, filters, out, out),
        Window.square(kernel, stride, kernel // 2, groups=groups), ((filters, channels // groups, kernel, kernel),),
        dtype,
    )  # fmt: skip


def random_operators(count: int, seed: int, *, depthwise: float = 0.2) -> list[Operator]:
    """Convolutions as networks have them, all different."""
    rng = np.random.default_rng(seed)
    found: dict[Operator, None] = {}
    while len(found) < count:
        batch, channels, extent, filters, kernel, stride = (
            int(rng.choice(values))
            for values in ((1, 8, 32), range(8, 512, 8), range(4, 112), range(8, 512, 8), (1, 3, 5), (1, 2))
        )
        lone = bool(rng.random() < depthwise)
        found[convolution(batch, channels, extent, filters, kernel, stride, depthwise=lone)] = None
    return list(found)


def device_us(operators: list[Operator], *, seed: int = 0, noise: float = 0.01) -> NDArray[np.float64]:
    """Microseconds on 24 units that compute tiles of 64 × 64 and move 100 kB per microsecond."""
    rng = np.random.default_rng(seed)
    times = [_device_us(operator) for operator in operators]
    return np.array(times) * np.exp(noise * rng.normal(size=len(times)))


def _device_us(operator: Operator) -> float:
    batch, channels, *extents = operator.output
    depth = operator.macs / (batch * channels * int(np.prod(extents)))
    traffic = (operator.input_bytes + operator.weight_bytes + operator.output_bytes) / 1e5
    if operator.kind == Kind.DEPTHWISE:
        return 4 + max(traffic, operator.macs / 2e5)
    waves = np.ceil(np.ceil(batch * np.prod(extents) / 64) * np.ceil(channels / 64) / 24)
    return float(4 + max(traffic, waves * (1.5 + 64 * 64 * depth / 2e5)))


def network(
    layers: list[tuple[int, int, int]], *, extent: int = 24, channels: int = 8, dtype: str = "int8"
) -> OperatorGraph:
    """A chain of convolutions: (filters, kernel, stride) each, then a global pool."""
    nodes: list[OperatorNode] = []
    sources = {"input": (1, channels, extent, extent)}
    before, shape = "input", sources["input"]
    for filters, kernel, stride in layers:
        operator = convolution(1, shape[1], shape[2], filters, kernel, stride, dtype=dtype)
        nodes.append(OperatorNode(f"conv{len(nodes)}", operator, (before,)))
        before, shape = nodes[-1].name, operator.output
    pool = Operator(Kind.GLOBAL_POOL, (shape,), (1, shape[1], 1, 1), dtype=dtype)
    nodes.append(OperatorNode("pool", pool, (before,)))
    return OperatorGraph.of(nodes, sources, ["pool"])


def random_networks(count: int, seed: int, *, dtype: str = "int8") -> list[OperatorGraph]:
    rng = np.random.default_rng(seed)
    return [
        network([
            (int(rng.choice([16, 32, 64, 96])), int(rng.choice([1, 3, 5])), int(rng.choice([1, 1, 2])))
            for _ in range(int(rng.integers(3, 9)))
        ], dtype=dtype)
        for _ in range(count)
    ]  # fmt: skip


def network_us(graph: OperatorGraph) -> float:
    """A network takes the sum of its convolutions, 7 µs for its pool, and 30 µs a run."""
    convolutions = [operator for operator in graph.operators if operator.kind != Kind.GLOBAL_POOL]
    return float(device_us(convolutions, noise=0).sum()) + 37
