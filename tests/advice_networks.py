"""Small networks with one of everything that rules look for."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from lanefit.export.onnx_export import simplify
from lanefit.models.layers import LayerBuilder
from lanefit.nas.onnx_bridge import to_timing_model


@cache
def bottlenecks(channels: int = 12, size: int = 16, kernel: int = 3, blocks: int = 3) -> ModelProto:
    """A stem, a first block, residual inverted bottlenecks, one with a stride, head and classifier."""
    net = LayerBuilder((3, size, size))
    net.conv("stem", channels, kernel=3, stride=2, activation="relu6")
    net.depthwise("first_depthwise", kernel=kernel, activation="relu6")
    net.conv("first_project", channels)
    before = "first_project"
    for number in range(blocks):
        net.conv(f"block{number}_expand", 3 * channels, activation="relu6")
        net.depthwise(f"block{number}_depthwise", kernel=kernel, activation="relu6")
        net.conv(f"block{number}_project", channels)
        net.add(f"block{number}_add", before)
        before = f"block{number}_add"
    net.conv("last_expand", 3 * channels, activation="relu6")
    net.depthwise("last_depthwise", kernel=kernel, stride=2, activation="relu6")
    net.conv("last_project", 2 * channels)
    net.conv("head", 8 * channels, activation="relu6")
    net.classifier(10)
    return simplify(to_timing_model(net.layers()))


@cache
def plain_chain() -> ModelProto:
    """Three convolutions, the last of which halves the map."""
    net = LayerBuilder((3, 16, 16))
    net.conv("stem", 8, kernel=3, activation="relu")
    net.conv("middle", 8, kernel=3, activation="relu")
    net.conv("late", 8, kernel=3, stride=2, activation="relu")
    net.classifier(10)
    return simplify(to_timing_model(net.layers()))


@cache
def gated() -> ModelProto:
    """A convolution with hard swish and squeeze-and-excite."""
    rng = np.random.default_rng(0)
    constants = {
        "w0": rng.normal(size=(16, 3, 3, 3)), "w1": rng.normal(size=(4, 16, 1, 1)),
        "w2": rng.normal(size=(16, 4, 1, 1)), "w3": rng.normal(size=(8, 16, 1, 1)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["a"], ["b"], "swish"),
        helper.make_node("GlobalAveragePool", ["b"], ["p"], "squeeze"),
        helper.make_node("Conv", ["p", "w1"], ["q"], "reduce"),
        helper.make_node("Relu", ["q"], ["r"], "reduce_relu"),
        helper.make_node("Conv", ["r", "w2"], ["s"], "excite"),
        helper.make_node("HardSigmoid", ["s"], ["g"], "gate"),
        helper.make_node("Mul", ["b", "g"], ["m"], "scale"),
        helper.make_node("Conv", ["m", "w3"], ["y"], "project"),
    ]
    graph = helper.make_graph(
        nodes, "gated",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 12, 12))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 12, 12))],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )  # fmt: skip
    return simplify(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


def outputs(model: ModelProto, seed: int = 0) -> NDArray[np.float32]:
    """What ONNX Runtime makes of noise."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    noise = np.random.default_rng(seed).standard_normal(given.shape, np.float32)
    (found,) = session.run(None, {given.name: noise})
    return np.asarray(found)
