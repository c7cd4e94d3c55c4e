"""Trained weights as a plain `.npz` file: arrays by name, no pickles, equal bytes for equal weights."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..common.errors import InputError
from ..common.files import write_atomic

if TYPE_CHECKING:
    from torch import nn


def state_arrays(module: nn.Module) -> dict[str, NDArray[np.generic]]:
    """Parameters and buffers of `module` as arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def save_weights(path: Path, weights: Mapping[str, NDArray[np.generic]]) -> None:
    """Writes the arrays atomically."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(weights[name]) for name in sorted(weights)})
    write_atomic(path, buffer.getvalue())


def read_weights(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays in `path`; `InputError` when it is absent, damaged, or holds anything but arrays."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"{path.name} does not exist", where=str(path)) from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(f"{path.name} does not hold weights: {error}", where=str(path), hint="train again") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Puts the weights in `path` into `module`; names and shapes must be those of the module."""
    import torch

    weights, wanted = read_weights(path), module.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    wrong = [
        name for name in sorted({*weights, *wanted}) if shapes.get(name) != getattr(weights.get(name), "shape", None)
    ]
    if wrong:
        problem = f"{path.name} was trained with another architecture: {len(wrong)} tensors differ, first {wrong[0]}"
        raise InputError(problem, where=str(path))
    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
