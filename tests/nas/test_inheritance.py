from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lanefit.models.architecture import Architecture
from lanefit.models.ibn_classifier import IBN_CLASSIFIER
from lanefit.nas.inheritance import Inheritance, inherit
from lanefit.nas.weights import state_arrays

PARENT = Architecture.of(
    "ibn-classifier", resolution=16, activation="relu", depth_multiplier=1, stem_channels=8, stem_kernel=3,
    stem_stride=1, head_channels=64, stages=2, stage1_depth=2, stage1_block1="ibn", stage1_block2="ibn",
    stage1_expansion=2, stage1_kernel=3, stage1_channels=12, stage1_stride=1, stage2_depth=1, stage2_block1="fused",
    stage2_expansion=2, stage2_kernel=3, stage2_channels=16, stage2_stride=2,
)  # fmt: skip


def _build(architecture: Architecture, seed: int) -> nn.Module:
    return IBN_CLASSIFIER.build(architecture, input_channels=3, classes=5, seed=seed)


def _trained(seed: int = 0) -> nn.Module:
    """The parent with weights and statistics that no initialisation has."""
    module, generator = _build(PARENT, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=generator)
    return module.eval()


def _child(**changes: int | str) -> tuple[nn.Module, Inheritance, float]:
    """A child that inherited, the report, and the largest difference of its outputs to the parent's."""
    parent, child = _trained(), _build(PARENT.with_values(**changes), seed=1)
    report = inherit(child, state_arrays(parent))
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        difference = (child.eval()(images) - parent(images)).abs().max().item()
    return child, report, difference


WIDER = [
    {},
    {"stem_channels": 16},
    {"stage1_channels": 24},
    {"stage2_channels": 40},
    {"head_channels": 128},
    {"stage1_expansion": 4},
    {"stage2_expansion": 3},
    {"stage1_kernel": 5},
    {"stem_kernel": 5, "stage2_kernel": 5, "stage1_channels": 32, "head_channels": 256},
    {"stage1_depth": 3, "stage1_block3": "ibn"},
    {"stage2_depth": 2, "stage2_block2": "fused", "stage2_channels": 24},
]


@pytest.mark.parametrize("changes", WIDER)
def test_a_larger_child_computes_what_its_parent_does(changes: dict[str, int | str]) -> None:
    _, report, difference = _child(**changes)
    assert report.preserves_function
    assert difference < 1e-4


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"stage1_channels": 8}, "steps.stage1_block1_project"),
        ({"head_channels": 32}, "steps.head"),
        ({"stage2_kernel": 1}, "steps.stage2_block1_fused"),
    ],
)
def test_a_smaller_child_says_which_layers_lost_something(changes: dict[str, int | str], where: str) -> None:
    _, report, difference = _child(**changes)
    assert where in report.narrowed
    assert not report.preserves_function
    assert difference > 1e-4


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"stage1_block2": "conv"}, "steps.stage1_block2_conv"),
        ({"stage2_depth": 2, "stage2_block2": "conv"}, "steps.stage2_block2_conv"),
    ],
)
def test_layers_of_another_kind_are_reported_as_fresh(changes: dict[str, int | str], where: str) -> None:
    _, report, difference = _child(**changes)
    assert where in report.fresh
    assert not report.preserves_function
    assert difference > 1e-4


def test_every_new_weight_of_a_wider_child_learns() -> None:
    child, _, _ = _child(stage1_channels=24, stage2_depth=2, stage2_block2="fused")
    child.train()
    optimiser = torch.optim.SGD(child.parameters(), lr=0.1)
    before = {name: tensor.clone() for name, tensor in child.named_parameters()}
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    for _ in range(2):  # a silent branch passes a gradient to its scale first, to its weights next
        optimiser.zero_grad()
        nn.functional.cross_entropy(child(images), torch.arange(8) % 5).backward()
        optimiser.step()
    still = [name for name, tensor in child.named_parameters() if torch.equal(tensor, before[name])]
    assert still == []


def test_a_plain_module_takes_whole_tensors_only() -> None:
    def make(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, width))

    parent, child = make(2), make(3)
    report = inherit(child, state_arrays(parent))
    assert (report.copied, report.fresh) == (("0",), ("2",))
    assert np.array_equal(state_arrays(child)["0.weight"], state_arrays(parent)["0.weight"])
