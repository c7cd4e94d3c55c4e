"""The drift reference: a small network whose latency says how fast the device is at the moment."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ...export.onnx_model import OPSET
from .sessions import LiveRunner
from .steadiness import Gauge

ALONE = (64, 14, 2)  # channels, size of the map, depth: 14 million MACs
TOGETHER = (32, 10, 32)  # 29 million MACs in 32 operators, each so small that handing over shows
_IR_VERSION = 10


def gauge(runner: LiveRunner) -> Gauge:
    """A reference that is ready to run on the runner's device; to be closed."""
    return Gauge(runner.prepare(runner.executed(reference_model(runner.threads)).model))


def reference_model(threads: int = 1) -> ModelProto:
    """3×3 convolutions in a row: two, about 0.2 ms on one core of today, or for several threads many small ones.

    Threads that share an operator wait for each other at its end, so its latency also depends on how long word takes
    from core to core; the ratio of both kinds of work is about that of mobile networks.
    """
    channels, size, depth = ALONE if threads == 1 else TOGETHER
    generator = np.random.default_rng(0)
    shape = (channels, channels, 3, 3)
    weights = [generator.standard_normal(shape, np.float32) * np.float32(0.05) for _ in range(depth)]
    names = ["input", *(f"map{i}" for i in range(depth))]
    nodes = [
        helper.make_node("Conv", [names[i], f"weight{i}"], [names[i + 1]], name=f"conv{i}", pads=[1] * 4)
        for i in range(depth)
    ]
    maps = [1, channels, size, size]
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, maps)],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, maps)],
        [numpy_helper.from_array(w, f"weight{i}") for i, w in enumerate(weights)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
