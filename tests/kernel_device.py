"""A device that can be computed: its kernels follow a law with tiles, waves and a noise of one per cent."""

import numpy as np
from numpy.typing import NDArray

from lanefit.estimator.opgraph.operator import Kind, Operator, Window


def convolution(
    batch: int, channels: int, extent: int, filters: int, kernel: int = 3, stride: int = 1, *, depthwise: bool = False
) -> Operator:
    out = -(-extent // stride)
    groups = channels if depthwise else 1
    kind = Kind.DEPTHWISE if depthwise else Kind.CONV
    filters = channels if depthwise else filters
    return Operator(
        kind, ((batch, channels, extent, extent),), (batch, filters, out, out),
        Window.square(kernel, stride, kernel // 2, groups=groups), ((filters, channels // groups, kernel, kernel),),
        "int8",
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
