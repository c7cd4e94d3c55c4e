"""Calibration data for quantisation, and the record of how it was prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ConfigError, InputError
from ..export.package import Preprocessing
from ..models.data_folder import SUFFIXES
from ..models.images import normalise, open_image, to_pixels
from ..models.tasks import Split, Task

SAMPLES = 128  # more change the ranges of a small network by less than a step
_COLOUR = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ImageNet's mean and deviation, the usual ones
_GREY = ((0.5,), (0.5,))


def preprocessing_of(task: Task, resolution: int) -> Preprocessing:
    """What turns a raw image of `task` into the input of a network of this resolution."""
    return Preprocessing(
        resolution=(resolution, resolution),
        channels=task.channels,
        mean=tuple(task.mean),
        std=tuple(task.std),
        class_names=tuple(task.class_names),
    )


def folder_preprocessing(input_shape: tuple[int, ...]) -> Preprocessing:
    """The usual preparation of images for a network of `input_shape` (1, C, H, W), where none is known."""
    if len(input_shape) != 4 or input_shape[1] not in (1, 3) or input_shape[2] != input_shape[3]:
        hint = "calibrate with *.npy files"
        raise ConfigError(f"images cannot become inputs of shape {list(input_shape)}", hint=hint)
    mean, std = _COLOUR if input_shape[1] == 3 else _GREY
    return Preprocessing(resolution=(input_shape[2], input_shape[3]), channels=input_shape[1], mean=mean, std=std)


def task_samples(task: Task, resolution: int, count: int = SAMPLES) -> list[NDArray[np.float32]]:
    """Training images of a task as network inputs (1, C, H, W)."""
    images = task.load(Split.TRAIN, resolution, limit=count).images
    return list(task.normalise(images)[:, None])


def folder_samples(folder: Path, steps: Preprocessing | None, count: int = SAMPLES) -> list[NDArray[np.float32]]:
    """The first `count` files under `folder`: `.npy` arrays as they are, images prepared by `steps`."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder.name!r}", where=str(folder))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    arrays = [path for path in files if path.suffix == ".npy"]
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if bool(arrays) == bool(images):
        problem = "holds both images and *.npy files" if arrays else "holds neither images nor *.npy files"
        raise InputError(f"{folder.name!r} {problem}", where=str(folder), hint="give a folder of one kind")
    if arrays:
        return [_read(path) for path in arrays[:count]]
    if steps is None or steps.channels is None or steps.resolution is None:
        raise ConfigError("nothing says how to prepare images", where=str(folder), hint="calibrate with *.npy files")
    size = steps.resolution[0]
    pixels = (to_pixels(open_image(path), steps.channels, size) for path in images[:count])
    return [normalise(picture, steps.mean, steps.std)[None] for picture in pixels]


def _read(path: Path) -> NDArray[np.float32]:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path.name}: {error}", where=str(path)) from error
