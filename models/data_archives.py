"""Tasks read from NumPy archives under `LANEFIT_DATA`: cifar10_jpeg, rooms, mnist, fashion_mnist.

Each archive has a README beside it that states origin, licence and splits.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.errors import ConfigError, InputError
from .tasks import RawSplit, Split, Task

_DEFAULT_ROOT = Path(__file__).resolve().parents[1].parent / "shared" / "data"
_CODES = {Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}
_SUFFIXES = {Split.TRAIN: "train", Split.VALIDATION: "val", Split.TEST: "test"}


def data_root() -> Path:
    """The folder in `LANEFIT_DATA`, else ../shared/data beside the repository."""
    return Path(os.environ.get("LANEFIT_DATA") or _DEFAULT_ROOT)


def _archive(file: str, *members: str) -> dict[str, np.ndarray]:
    path = data_root() / file
    if not path.is_file():
        hint = "set LANEFIT_DATA to the folder that holds it, or use --task digits, which needs no data"
        raise ConfigError(f"{file} is not there", where=str(path), hint=hint)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {member: archive[member] for member in members}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} is damaged or not the expected archive: {error}", where=str(path)) from error


def _read_arrays(file: str, split: Split) -> RawSplit:
    x, y = (f"{axis}_{_SUFFIXES[split]}" for axis in "xy")
    archive = _archive(file, x, y)
    return RawSplit(archive[x], archive[y].astype(np.int64))


def _read_jpegs(file: str, split: Split) -> RawSplit:
    archive = _archive(file, "jpeg", "offset", "label", "split")
    chosen = np.flatnonzero(archive["split"] == _CODES[split])
    return RawSplit(_decode(file, archive, chosen), archive["label"][chosen].astype(np.int64))


def _decode(file: str, archive: dict[str, np.ndarray], chosen: np.ndarray) -> Iterator[Image.Image]:
    jpeg, offset = archive["jpeg"], archive["offset"]
    for item in chosen.tolist():
        try:
            image = Image.open(io.BytesIO(jpeg[offset[item] : offset[item + 1]].tobytes()))
            image.load()
        except OSError as error:
            raise InputError(f"image {item} of {file} is damaged: {error}", where=str(data_root() / file)) from error
        yield image


def _task(name: str, reader: Any, file: str, classes: str, **settings: Any) -> Task:
    return Task(name, tuple(classes.split(",")), read=partial(reader, file), **settings)


CIFAR10_JPEG = _task(
    "cifar10_jpeg",
    _read_jpegs,
    "cifar10_jpeg/cifar10.npz",
    "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
    channels=3,
    mean=(0.491, 0.482, 0.447),
    std=(0.247, 0.243, 0.262),
    resolution=32,
    flip=True,
    summary="CIFAR-10 as JPEG: 40000 train, 4000 validation, 6000 test",
)
ROOMS = _task(
    "rooms",
    _read_jpegs,
    "rooms/rooms80.npz",
    "bathroom,bedroom,kitchen,frontal",
    channels=3,
    mean=(0.57, 0.53, 0.48),
    std=(0.225, 0.227, 0.255),
    resolution=80,
    flip=True,
    summary="four kinds of rooms, split by house: 1240 train, 216 validation, 256 test",
)
MNIST = _task(
    "mnist",
    _read_arrays,
    "mnist/mnist.npz",
    "0,1,2,3,4,5,6,7,8,9",
    channels=1,
    mean=(0.131,),
    std=(0.308,),
    resolution=28,
    summary="MNIST digits: 10000 train, 1000 validation, 3000 test",
)
FASHION_MNIST = _task(
    "fashion_mnist",
    _read_arrays,
    "fashion_mnist/fashion_mnist.npz",
    "t-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot",
    channels=1,
    mean=(0.286,),
    std=(0.353,),
    resolution=28,
    flip=True,
    summary="Fashion-MNIST: 20000 train, 2000 validation, 5000 test",
)
