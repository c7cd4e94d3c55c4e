"""Accuracy of a subnet without training: statistics of its normalisations first, then a pass over validation images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...models.architecture import Architecture
from ..training import evaluate
from .supernet import Supernet


def recalibrated(supernet: Supernet, architecture: Architecture, batches: Sequence[Tensor]) -> dict[str, Tensor]:
    """Means and variances of the subnet's maps over `batches` (N, C, H, W), as buffers by name, on the CPU.

    Computed where the batches are.

    Shared weights have no statistics that fit every subnet; they must be taken anew for each (Yu & Huang 2019,
    arXiv:1903.05134, section 4).
    """
    module = supernet.extract(architecture)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over all batches
    module.to(batches[0].device).train()
    with torch.no_grad():
        for images in batches:
            module(images)
    return {name: buffer.cpu().clone() for name, buffer in module.named_buffers()}


def subnet_accuracy(
    supernet: Supernet, architecture: Architecture, batches: Sequence[Tensor], images: Tensor, labels: Tensor
) -> float:
    """Share of `images` that the subnet classifies right, its statistics taken from `batches` of training images."""
    module = supernet.extract(architecture, recalibrated(supernet, architecture, batches))
    return evaluate(module.to(batches[0].device), images, labels)
