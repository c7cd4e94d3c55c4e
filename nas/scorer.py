"""`Scorer`: zero-shot scores of any architecture of a family on one minibatch, each computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..models.architecture import Architecture
from ..models.family import Family
from ..models.tasks import Split, Task
from .proxies import DEFAULT_PROXIES, timed_scores
from .proxies.subject import Subject
from .score_cache import ScoreCache, ScoreContext, Scored

PROXY_BATCH = 16  # images that a zero-shot score looks at


def minibatch(task: Task, resolution: int, count: int = PROXY_BATCH) -> tuple[Tensor, Tensor]:
    """The first training images (count, C, resolution, resolution), normalised, and their classes."""
    images, labels = task.load(Split.TRAIN, resolution, limit=count)
    return torch.from_numpy(np.ascontiguousarray(task.normalise(images))), torch.tensor(labels)


class Scorer:
    """Scores by proxy of architectures of `family`, built with `seed` for `classes`, on `images` and `labels`.

    Without a cache every call computes. Seconds are those of the run that computed a score.
    """

    def __init__(
        self,
        family: Family,
        images: Tensor,
        labels: Tensor | None,
        *,
        classes: int,
        proxies: Sequence[str] = DEFAULT_PROXIES,
        seed: int = 0,
        cache: ScoreCache | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.family, self.proxies, self.classes, self.seed = family, tuple(proxies), classes, seed
        self._images, self._labels, self._device = images, labels, device
        self._cache = cache
        self._context = ScoreContext.of(images, labels, seed=seed, classes=classes)

    def __call__(self, architecture: Architecture) -> Scored:
        """Scores, higher is better, minus infinity for a degenerate network; and what each costs by itself."""
        canonical = self.family.canonicalise(architecture)
        if self._cache is None:
            scores, seconds = self._compute(canonical, self.proxies)
            return Scored(dict(scores), dict(seconds))
        return self._cache.scores(canonical, self.proxies, self._context, lambda names: self._compute(canonical, names))

    def _compute(
        self, architecture: Architecture, names: Sequence[str]
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        shape = {"input_channels": self._images.shape[1], "classes": self.classes}
        macs = sum(layer.macs for layer in self.family.layers(architecture, **shape))
        module = self.family.build(architecture, **shape, seed=self.seed)
        subject = Subject(module, self._images, macs=macs, labels=self._labels, seed=self.seed, device=self._device)
        return timed_scores(names, subject)
