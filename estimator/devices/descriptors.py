"""What physics knows of an operator before anything was measured: work, bytes, and the logarithms of its sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2, prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..opgraph.operator import Operator, Shape

Array: TypeAlias = NDArray[np.float64]

PHYSICS = ("macs", "steps", "moved_bytes", "weight_bytes", "launches")
SIZES = ("channels_in", "channels_out", "positions", "taps", "stride")


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Operators as rows.

    kinds: an operator's kind with what is fused into it.
    physics: (operators, len(PHYSICS)) of amounts that time can only grow with.
    sizes: (operators, len(SIZES)), base-2 logarithms.
    """

    kinds: tuple[str, ...]
    physics: Array
    sizes: Array


def describe(operators: Sequence[Operator]) -> Descriptors:
    """The descriptors of `operators`, in their order."""
    rows = [_row(operator) for operator in operators]
    physics = np.array([row[0] for row in rows], np.float64).reshape(len(rows), len(PHYSICS))
    sizes = np.array([row[1] for row in rows], np.float64).reshape(len(rows), len(SIZES))
    return Descriptors(tuple(kind_name(operator) for operator in operators), physics, sizes)


def kind_name(operator: Operator) -> str:
    """ "conv" or, with an epilogue, "conv+relu"."""
    return "+".join((str(operator.kind), *(str(kind) for kind in operator.fused)))


@lru_cache(maxsize=65536)
def _row(operator: Operator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    moved = operator.input_bytes + operator.output_bytes
    physics = (operator.macs, operator.elementary_steps, moved, operator.weight_bytes, 1)
    source = operator.inputs[0] if operator.inputs else operator.output
    window = operator.window
    extents = (
        _channels(source), _channels(operator.output), prod(operator.output) / _channels(operator.output),
        1 if window is None else window.taps, 1 if window is None else window.stride[0],
    )  # fmt: skip
    return tuple(float(amount) for amount in physics), tuple(log2(max(extent, 1)) for extent in extents)


def _channels(shape: Shape) -> int:
    """Of a map (N, C, H, W) or of tokens (..., C)."""
    return (shape[1] if len(shape) == 4 else shape[-1]) if shape else 1
