"""`TrainedSupernet`: accuracies and starting weights of architectures, from a supernet that has been trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...models.architecture import Architecture
from ...models.tasks import Split, Task
from ..weights import state_arrays
from .evaluation import recalibrated, subnet_accuracy
from .supernet import Supernet

RECALIBRATION = 512  # training images that the normalisations of a subnet see before it is judged
RECALIBRATION_BATCH = 128
VALIDATION = 2000  # images that judge it: a standard error of 1.1 points at most, the same images for all subnets


@dataclass
class TrainedSupernet:
    """Judges subnets on `device` with the first images of the task's splits, at the resolution of each subnet."""

    supernet: Supernet
    task: Task
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _images: dict[tuple[Split, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def accuracy(self, architecture: Architecture) -> float:
        """Share of validation images (0..1) that the subnet classifies right as it is."""
        images, labels = self._first(Split.VALIDATION, architecture, VALIDATION)
        return subnet_accuracy(self.supernet, architecture, self._batches(architecture), images, labels)

    def weights(self, architecture: Architecture) -> Mapping[str, NDArray[np.generic]]:
        """The state of the subnet's module, with statistics of its own, to begin a training with."""
        statistics = recalibrated(self.supernet, architecture, self._batches(architecture))
        return state_arrays(self.supernet.extract(architecture, statistics))

    def _batches(self, architecture: Architecture) -> list[Tensor]:
        images, _ = self._first(Split.TRAIN, architecture, RECALIBRATION)
        return list(images.to(self.device).split(RECALIBRATION_BATCH))

    def _first(self, split: Split, architecture: Architecture, count: int) -> tuple[Tensor, Tensor]:
        resolution = self.supernet.family.input_shape(architecture, self.task.channels)[1]
        if (split, resolution) not in self._images:
            images, labels = self.task.load(split, resolution, limit=count)
            self._images[split, resolution] = torch.from_numpy(self.task.normalise(images)), torch.tensor(labels)
        return self._images[split, resolution]
