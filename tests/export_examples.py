"""Small networks and hand-made QDQ models that the export tests share."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference
from torch import nn

from lanefit.export.onnx_export import to_onnx
from lanefit.export.quantise import quantise, random_calibration


def _norm_conv(inputs: int, outputs: int, kernel: int, **options: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class EveryOperator(nn.Module):
    """Each operator that the engine takes, on a 16×16 map of two channels."""

    shape = (1, 2, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand = _norm_conv(2, 8, 3, stride=2), _norm_conv(8, 16, 1)
        self.depthwise, self.project = _norm_conv(16, 16, 5, groups=16), _norm_conv(16, 8, 1)
        self.shrink = nn.AvgPool2d(2)
        self.head, self.skip, self.classify = nn.Linear(32, 16), nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.stem(x))
        wide = nn.functional.relu6(self.depthwise(torch.relu(self.expand(x))))
        x = torch.relu(x + self.project(wide))
        x = self.shrink(nn.functional.max_pool2d(x, 3, stride=2, padding=1))
        hidden = self.head(torch.flatten(x, 1)) + self.skip(x.mean((2, 3)))
        return self.classify(torch.relu(hidden))


class Mixed(nn.Module):
    """A log-softmax over columns, which the engine refuses, between two parts that it takes."""

    shape = (1, 1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.classify = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = self.second(x * torch.log_softmax(x, 3))
        return self.classify(torch.relu(x).mean((2, 3)))


def seeded(kind: type[nn.Module]) -> nn.Module:
    """The module with reproducible weights and batch statistics that are not the trivial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias)
    return module.eval()


@functools.cache
def float_model(kind: type[nn.Module]) -> ModelProto:
    return to_onnx(seeded(kind), kind.shape)  # pyright: ignore[reportAttributeAccessIssue]


@functools.cache
def int8_model(kind: type[nn.Module]) -> ModelProto:
    shape = kind.shape  # pyright: ignore[reportAttributeAccessIssue]
    return quantise(float_model(kind), random_calibration(shape, 16))


@dataclass
class QdqGraph:
    """Writes a QDQ model operator by operator; tensors are called after the name of what makes them."""

    shape: tuple[int, ...]
    stored: type[np.integer] = np.int8
    opset: int = 18
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray) -> str:
        self.constants[name] = value
        return name

    def op(self, op_type: str, name: str, inputs: Sequence[str], **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, list(inputs), [f"{name}.out"], name=name, **attributes))  # pyright: ignore
        return f"{name}.out"

    def pair(
        self, source: str, name: str, scale: float, zero_point: int, stored: type[np.integer] | None = None
    ) -> str:
        """Quantise and dequantise; the dequantised tensor."""
        kind = stored or self.stored
        numbers = [
            self.constant(f"{name}.scale", np.array(scale, np.float32)),
            self.constant(f"{name}.zero", np.array(zero_point, kind)),
        ]
        quantised = self.op("QuantizeLinear", f"{name}.q", [source, *numbers])
        return self.op("DequantizeLinear", f"{name}.dq", [quantised, *numbers])

    def weights(self, name: str, value: NDArray, scale: float | NDArray, zero_point: int = 0, axis: int = 0) -> str:
        """A dequantised integer constant."""
        scales = np.asarray(scale, np.float32)
        zeros = np.full(scales.shape, zero_point, value.dtype)
        inputs = [self.constant(f"{name}.{k}", v) for k, v in (("v", value), ("s", scales), ("z", zeros))]
        return self.op("DequantizeLinear", name, inputs, axis=axis)

    def model(
        self, output: str, *, dynamic: bool = False, batch: int = 1, output_type: int = TensorProto.FLOAT
    ) -> ModelProto:
        shape = ["n" if dynamic else batch, *self.shape[1:]]
        graph = helper.make_graph(
            self.nodes,
            "main",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, output_type, None)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return shape_inference.infer_shapes(model, data_prop=True)


def conv_graph(
    weights: NDArray,
    shape: tuple[int, ...] = (1, 4, 6, 6),
    *,
    stored: type[np.integer] = np.int8,
    scale: float | NDArray = 0.02,
    zero_point: int = 0,
    axis: int = 0,
    **attributes: object,
) -> ModelProto:
    """One convolution with quantised input and output."""
    graph = QdqGraph(shape, stored)
    x = graph.pair("input", "x", 0.03, 5)
    w = graph.weights("w", weights, scale, zero_point, axis)
    y = graph.op("Conv", "conv", [x, w], **attributes)
    return graph.model(graph.pair(y, "y", 0.05, 3))
