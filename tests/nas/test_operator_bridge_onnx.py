"""The fast way from an architecture to its operators is the real way, only faster."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lanefit.estimator.opgraph.onnx_reader import operator_graph
from lanefit.estimator.opgraph.rewrite import merge_equal
from lanefit.export.onnx_export import to_onnx
from lanefit.models.registry import families
from lanefit.nas.operator_bridge import architecture_graph


def trained_looking(module: nn.Module) -> nn.Module:
    """With statistics and biases that no exporter can leave out for being zero."""
    generator = torch.Generator().manual_seed(0)
    tensors = [*module.buffers(), *(p.data for p in module.parameters() if p.ndim == 1)]
    for tensor in tensors:
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


def check(name: str, seed: int) -> None:
    family = families.get(name)
    architecture = family.sample(np.random.default_rng(seed))
    module = trained_looking(family.build(architecture, input_channels=3, classes=10))
    shape = (1, *family.input_shape(architecture, 3))
    exported = operator_graph(to_onnx(module, shape))
    assert exported.digest() == merge_equal(architecture_graph(architecture)).digest()


@pytest.mark.parametrize("name", families.names())
def test_the_fast_graph_of_an_architecture_is_the_graph_of_its_exported_network(name: str) -> None:
    check(name, seed=11)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", families.names())
def test_the_fast_graph_is_the_exported_graph_for_many_architectures(name: str, seed: int) -> None:
    check(name, seed)
