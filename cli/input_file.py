"""From a file on disk to the input of a package: images as in training, `.npy` arrays as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..common.errors import InputError

if TYPE_CHECKING:
    from ..export.package import Package, TensorInfo


def read_input(file: Path, package: Package) -> dict[str, NDArray]:
    """The only input of the package as samples along the leading axis.

    Raises:
        InputError: the file cannot be read, the package does not say how to prepare an image, or shape or
            type are not those that the model takes.
    """
    inputs = package.manifest.inputs
    if len(inputs) != 1:
        names = ", ".join(info.name for info in inputs)
        raise InputError(f"the model has {len(inputs)} inputs ({names}), one file gives one", where=str(file))
    array = _array(file, inputs[0]) if file.suffix == ".npy" else _image(file, package)
    return {inputs[0].name: array}


def _array(file: Path, info: TensorInfo) -> NDArray:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {file.name}: {error}", where=str(file)) from error
    batch = array[None] if array.shape == info.shape[1:] else array
    if batch.shape[1:] != info.shape[1:] or batch.dtype != np.dtype(info.dtype) or not len(batch):
        wanted = f"{info.dtype} ({', '.join(map(str, info.shape))})"
        raise InputError(
            f"input {info.name!r} takes {wanted}, got {array.dtype} ({', '.join(map(str, array.shape))})",
            where=str(file),
            hint="the batch axis may be left out, or hold several samples",
        )
    return batch


def _image(file: Path, package: Package) -> NDArray:
    from ..models.images import normalise, open_image, to_pixels

    steps = package.manifest.preprocessing
    if steps is None or steps.resolution is None or steps.channels is None:
        hint = "give the prepared tensor as *.npy"
        raise InputError("the package does not say how to prepare an image", where=str(file), hint=hint)
    if steps.resolution[0] != steps.resolution[1]:
        raise InputError(f"only square images can be prepared, not {steps.resolution}", where=str(file))
    pixels = to_pixels(open_image(file), steps.channels, steps.resolution[0])
    return normalise(pixels, steps.mean, steps.std)[None]
