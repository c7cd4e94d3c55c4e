"""What the residual of an operator's law is learned from, and the box of shapes that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .shapes import COLUMN, columns_of

Array: TypeAlias = NDArray[np.float64]
Box: TypeAlias = dict[str, tuple[Array, Array]]

_SIZES = (
    "batch", "rows", "channels_in", "channels_out", "taps", "subsampling", "groups", "depth", "steps", "input_bytes",
    "output_bytes", "weight_bytes",
)  # fmt: skip
_BOXED = (*_SIZES, "epilogue")
_IMAGE_CHANNELS = 4  # first layers read so few channels that libraries have kernels of their own for them
_FAR = 3.0  # log distance from the fastest tactic beyond which a tactic plays no part
_SMOOTH_TACTICS = 6


@dataclass(frozen=True, slots=True)
class Physics:
    """Log latency by the law (rows,), and log time of each tactic (rows, tactics), `inf` where it does not apply."""

    log_latency: Array
    log_times: Array


def feature_rows(x: Array, classes: NDArray[np.str_], names: Sequence[str], physics: Physics) -> Array:
    """Sizes as logarithms, class, law and tactics; the tactics' columns come last, one for each."""
    c = columns_of(x)
    least = physics.log_times.min(1, keepdims=True)
    behind = np.minimum(physics.log_times - least, _FAR)
    second = np.sort(behind, 1)[:, min(1, behind.shape[1] - 1)]
    return np.column_stack([
        *(np.log(np.maximum(c[name], 1)) for name in _SIZES),
        np.log(c["batch"] * c["positions"]),
        c["extra_bytes"] > 0, c["epilogue"], c["batch"] == 1, c["channels_in"] <= _IMAGE_CHANNELS,
        *(classes == name for name in names),
        physics.log_latency, least[:, 0], second, np.argmin(physics.log_times, 1), behind,
    ]).astype(np.float64)  # fmt: skip


def smooth_columns(features: Array, physics: Physics) -> tuple[int, ...]:
    """Columns whose neighbourhood means something: those that vary; of the tactics only those often the fastest."""
    first = features.shape[1] - physics.log_times.shape[1]
    chances = np.exp(-5 * features[:, first:])
    use = (chances / chances.sum(1, keepdims=True)).mean(0)
    tactics = (first + np.argsort(-use, kind="stable")[:_SMOOTH_TACTICS]).tolist()
    choice = first - 1  # the number of the fastest tactic is a name, not a quantity
    columns = [*range(choice), *tactics]
    return tuple(column for column in columns if np.ptp(features[:, column]) > 0) or (0,)


def box_of(x: Array, classes: NDArray[np.str_]) -> Box:
    """Lowest and highest size of each class."""
    columns = _box_columns(x)
    return {
        str(name): (columns[classes == name].min(0), columns[classes == name].max(0)) for name in np.unique(classes)
    }


def outside(box: Mapping[str, tuple[Array, Array]], x: Array, classes: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Rows with a size below the lowest or above the highest that was measured in their class."""
    columns = _box_columns(x)
    low = np.stack([box[str(name)][0] for name in classes])
    high = np.stack([box[str(name)][1] for name in classes])
    return np.any((columns < low) | (columns > high), axis=1)


def box_as_dict(box: Mapping[str, tuple[Array, Array]]) -> dict[str, dict[str, list[float]]]:
    """By class and size, [lowest, highest]."""
    return {
        name: {size: [float(a), float(b)] for size, a, b in zip(_BOXED, low, high, strict=True)}
        for name, (low, high) in box.items()
    }


def _box_columns(x: Array) -> Array:
    return x[:, [COLUMN[name] for name in _BOXED]]
