"""`to_timing_model`: the layers of a family as a float ONNX model with random weights, in milliseconds.

What a network costs does not depend on its weights. Building the torch module and exporting it gives the same
operators (a test holds the two equal) but takes seconds for each network, too long to measure hundreds of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..common.errors import UnsupportedError
from ..export.onnx_model import OPSET

if TYPE_CHECKING:
    from ..models.layers import LayerSpec, MapShape

INPUT, OUTPUT = "input", "output"
_IR_VERSION = 10
_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid"}


def to_timing_model(layers: Sequence[LayerSpec], *, seed: int = 0) -> ModelProto:
    """A model of input "input" (1, C, H, W) and output "output"; normalisation is folded into convolutions.

    Raises:
        UnsupportedError: no layers, or a kind of layer without an ONNX form here.
    """
    if not layers:
        raise UnsupportedError("a network without layers has no model")
    writer = _Writer(np.random.default_rng(seed))
    for layer in layers:
        writer.add(layer)
    return writer.model(layers[0].input_shape, layers[-1])


class _Writer:
    """Collects nodes and constants. Every layer's result has the layer's name."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}

    def add(self, layer: LayerSpec) -> None:
        made = layer.name if layer.activation == "none" else f"{layer.name}.linear"
        source = list(layer.inputs)
        match str(layer.kind):
            case "conv" | "depthwise":
                self._convolution(layer, source, made)
            case "add" | "mul":
                self._node(str(layer.kind).capitalize(), source, made)
            case "global_average_pool":
                self._node("ReduceMean", [*source, self._constant("axes", np.array([2, 3]))], made, keepdims=1)
            case "average_pool":
                self._node("AveragePool", source, made, **_window(layer), count_include_pad=0)
            case "batch_norm":
                self._normalisation(layer, source, made)
            case "zero":
                self._node("Mul", [*source, self._constant("zero", np.float32(0))], made)
            case "linear":
                self._linear(layer, source, made)
            case "activation":
                made = source[0]
            case kind:
                raise UnsupportedError(f"no ONNX form for a layer of kind {kind!r}", where=layer.name)
        if layer.activation != "none":
            self._activation(layer.activation, made, layer.name)

    def model(self, input_shape: MapShape, last: LayerSpec) -> ModelProto:
        shape = [1, last.output_shape[0]] if str(last.kind) == "linear" else [1, *last.output_shape]
        self._node("Identity", [last.name], OUTPUT)
        graph = helper.make_graph(
            self._nodes,
            "network",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, *input_shape])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)],
            list(self._constants.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)

    def _convolution(self, layer: LayerSpec, source: list[str], made: str) -> None:
        groups = layer.input_shape[0] if str(layer.kind) == "depthwise" else 1
        fan_in = layer.input_shape[0] // groups
        weights = self._random(f"{layer.name}.weight", layer.output_shape[0], fan_in, layer.kernel, layer.kernel)
        biases = [] if layer.affine == "none" else [self._random(f"{layer.name}.bias", layer.output_shape[0])]
        self._node("Conv", [*source, weights, *biases], made, **_window(layer), group=groups)

    def _linear(self, layer: LayerSpec, source: list[str], made: str) -> None:
        rows = self._constant("rows", np.array([1, -1]))
        self._node("Reshape", [*source, rows], f"{layer.name}.flat", allowzero=1)
        weights = self._random(f"{layer.name}.weight", layer.output_shape[0], layer.input_shape[0])
        bias = self._random(f"{layer.name}.bias", layer.output_shape[0])
        self._node("Gemm", [f"{layer.name}.flat", weights, bias], made, transB=1)

    def _normalisation(self, layer: LayerSpec, source: list[str], made: str) -> None:
        parts = [self._random(f"{layer.name}.{part}", layer.output_shape[0]) for part in ("scale", "shift", "mean")]
        variance = self._constant(f"{layer.name}.variance", np.ones(layer.output_shape[0], np.float32))
        self._node("BatchNormalization", [*source, *parts, variance], made)

    def _activation(self, name: str, source: str, made: str) -> None:
        if name == "relu6":
            bounds = [self._constant("zero", np.float32(0)), self._constant("six", np.float32(6))]
            self._node("Clip", [source, *bounds], made)
        else:
            self._node(_ACTIVATIONS[name], [source], made)

    def _random(self, name: str, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) or 1
        scale = np.float32(np.sqrt(2 / fan_in)) if len(shape) > 1 else np.float32(0.1)
        return self._constant(name, self._generator.standard_normal(shape, np.float32) * scale)

    def _constant(self, name: str, value: np.ndarray | np.float32) -> str:
        self._constants.setdefault(name, numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))


def _window(layer: LayerSpec) -> Mapping[str, list[int]]:
    return {"kernel_shape": [layer.kernel] * 2, "strides": [layer.stride] * 2, "pads": [layer.padding] * 4}
