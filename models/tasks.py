"""`Task`: labelled images in three fixed splits, and how a raw image becomes a network's input. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ConfigError, InputError
from .images import AnyImage, Pixels, normalise, to_pixels


class Split(StrEnum):
    """TEST is never used to choose anything."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class RawSplit(NamedTuple):
    """Images as stored, read lazily, and one class number for each."""

    images: Iterable[AnyImage]
    labels: NDArray[np.int64]


class LabelledImages(NamedTuple):
    """uint8 (N, C, H, W), read-only, and int64 (N,)."""

    images: Pixels
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Task:
    """One classification task. `mean` and `std` are per channel, of values in 0..1.

    `flip` says that a mirror image keeps its class. `resolution` is what the images come in, or nearly.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resolution: int
    read: Callable[[Split], RawSplit]
    flip: bool = False
    summary: str = ""

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def load(self, split: Split | str, resolution: int, *, limit: int | None = None) -> LabelledImages:
        """All images of the split (or its first `limit`, a fair sample) at `resolution`, not yet normalised."""
        return _load(self, Split(split), resolution, limit)

    def example(self, split: Split | str, index: int) -> tuple[AnyImage, int]:
        """Image `index` of the split as it is stored, and its class."""
        raw = self.read(Split(split))
        for position, image in enumerate(raw.images):
            if position == index:
                return image, int(raw.labels[index])
        raise InputError(f"split {split} of {self.name} has {len(raw.labels)} images, no number {index}")

    def preprocess(self, image: AnyImage, resolution: int) -> NDArray[np.float32]:
        """What a network reads for a raw image: float32 (C, resolution, resolution), exactly as in training."""
        return self.normalise(to_pixels(image, self.channels, resolution))

    def normalise(self, pixels: Pixels) -> NDArray[np.float32]:
        """Pixels of `load` as float32 network inputs of the same shape."""
        return normalise(pixels, self.mean, self.std)


@lru_cache(maxsize=6)  # every trial of a search loads the same few splits
def _load(task: Task, split: Split, resolution: int, limit: int | None) -> LabelledImages:
    if resolution < 1 or (limit is not None and limit < 1):
        raise ConfigError(f"resolution and limit must be positive, got {resolution} and {limit}")
    raw = task.read(split)
    labels = np.asarray(raw.labels[:limit], np.int64)
    pixels = np.empty((len(labels), task.channels, resolution, resolution), np.uint8)
    for row, image in zip(pixels, raw.images, strict=False):
        row[:] = to_pixels(image, task.channels, resolution)
    for array in (pixels, labels):
        array.setflags(write=False)
    return LabelledImages(pixels, labels)
