"""The drift reference: a small network whose latency says how fast the device is at the moment."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ...export.onnx_model import OPSET

CHANNELS, SIZE, DEPTH = 64, 28, 2
_IR_VERSION = 10


def reference_model() -> ModelProto:
    """Two 3×3 convolutions of 64 channels on a 28×28 map, 58 million MACs: about a millisecond on one core of today."""
    generator = np.random.default_rng(0)
    shape = (CHANNELS, CHANNELS, 3, 3)
    weights = [generator.standard_normal(shape, np.float32) * np.float32(0.05) for _ in range(DEPTH)]
    names = ["input", *(f"map{i}" for i in range(DEPTH))]
    nodes = [
        helper.make_node("Conv", [names[i], f"weight{i}"], [names[i + 1]], name=f"conv{i}", pads=[1] * 4)
        for i in range(DEPTH)
    ]
    maps = [1, CHANNELS, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, maps)],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, maps)],
        [numpy_helper.from_array(w, f"weight{i}") for i, w in enumerate(weights)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
