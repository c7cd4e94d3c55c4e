"""Normalisation without a convolution before it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from torch import nn

from lanefit.export.batch_norm import norms_as_convolutions
from lanefit.export.importer import import_model
from lanefit.export.onnx_export import to_onnx
from lanefit.export.onnx_model import model_bytes
from lanefit.export.quantise import quantise, random_calibration

SHAPE = (1, 6, 5, 7)


class Residual(nn.Module):
    """The sum keeps the normalisation from becoming part of the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        generator = torch.Generator().manual_seed(0)
        tensors = (self.norm.weight.data, self.norm.bias.data, self.norm.running_mean, self.norm.running_var)
        for tensor in tensors:
            assert tensor is not None
            tensor.copy_(torch.rand(6, generator=generator) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x) + x))


def test_a_normalisation_of_a_sum_keeps_its_values_as_a_depthwise_convolution() -> None:
    model = to_onnx(Residual(), SHAPE)
    rewritten = norms_as_convolutions(model)
    x = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    before, after = (
        onnxruntime.InferenceSession(model_bytes(m), providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]
        for m in (model, rewritten)
    )
    np.testing.assert_allclose(np.asarray(after), np.asarray(before), rtol=1e-5, atol=1e-5)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Add", "BatchNormalization", "Relu"]
    assert [node.op_type for node in rewritten.graph.node] == ["Conv", "Add", "Conv", "Relu"]


def test_the_engine_takes_a_network_with_such_a_normalisation_as_a_whole() -> None:
    imported = import_model(quantise(to_onnx(Residual(), SHAPE), random_calibration(SHAPE)))
    (region,) = imported.regions
    assert [type(node.op).__name__ for node in region.graph.nodes] == ["Conv2d", "Add", "Conv2d"]


def test_a_model_without_normalisations_stays_the_same_object() -> None:
    model = to_onnx(nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU()), SHAPE)
    assert norms_as_convolutions(model) is model
