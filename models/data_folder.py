"""Task `folder:PATH`: any folder with one subfolder of images per class."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np

from ..common.errors import ConfigError
from .images import open_image
from .splits import stratified
from .tasks import RawSplit, Split, Task

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
LEAST_IMAGES = 5  # per class: one to test, one to validate, the rest to learn from
_SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test"})


def folder_task(path: str) -> Task:
    """The task of the images under `path`, in RGB; classes are the subfolders in alphabetical order.

    The split follows from the relative file names alone. Normalised with ImageNet's mean and deviation.

    Raises:
        ConfigError: when there is no such folder, fewer than two classes, or a class with fewer than 5 images.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ConfigError(f"there is no folder {path!r}", where=f"folder:{path}", hint="give a folder of class folders")
    names = tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if len(names) < 2 or _SPLIT_NAMES.issuperset(names):
        found = ", ".join(names) or "no subfolders"
        hint = "one subfolder per class; where the images are split already, point at the training part"
        raise ConfigError(f"{path!r} is not a folder of classes, it has {found}", where=f"folder:{path}", hint=hint)
    for name in names:
        count = len(_images(root / name))
        if count < LEAST_IMAGES:
            where, hint = str(root / name), f"give at least {LEAST_IMAGES}, or move the folder away"
            raise ConfigError(f"class {name!r} has {count} images", where=where, hint=hint)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    read = partial(_read, root, names)
    return Task(f"folder:{path}", names, 3, mean, std, resolution=64, read=read, flip=True, summary=f"images in {path}")


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _read(root: Path, names: tuple[str, ...], split: Split) -> RawSplit:
    files = [(path, label) for label, name in enumerate(names) for path in _images(root / name)]
    labels = np.array([label for _, label in files], np.int64)
    sizes = np.bincount(labels, minlength=len(names)).tolist()
    counts = {
        Split.TEST: {label: math.ceil(size * TEST_SHARE) for label, size in enumerate(sizes)},
        Split.VALIDATION: {label: math.ceil(size * VALIDATION_SHARE) for label, size in enumerate(sizes)},
    }
    chosen = stratified([path.relative_to(root).as_posix() for path, _ in files], labels, counts)[split]
    return RawSplit((open_image(files[item][0]) for item in chosen.tolist()), labels[chosen])
