"""Operators as rows of numbers, the input of `operator_model`: what a kernel has to do, whatever the device."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...common.errors import UnsupportedError
from ..opgraph.operator import BYTES_PER_ELEMENT, CONVOLUTIONS, POOLS, Kind, Operator

COLUMNS = (
    "batch", "positions", "rows", "channels_in", "channels_out", "taps", "subsampling", "groups", "depth",
    "element_bytes", "steps", "input_bytes", "extra_bytes", "output_bytes", "weight_bytes", "epilogue",
)  # fmt: skip
"""positions: of the output, over all axes but batch and channels; subsampling: stride over both axes; depth: products
summed for one output element; steps: multiply-accumulates, or elementary steps where there are none; extra_bytes: read
by the epilogue alone; epilogue: how many operators run in the same pass."""
COLUMN = {name: index for index, name in enumerate(COLUMNS)}


def shape_matrix(operators: Sequence[Operator]) -> NDArray[np.float64]:
    """One row of `COLUMNS` per operator."""
    return np.array([_row(operator) for operator in operators], np.float64).reshape(len(operators), len(COLUMNS))


def columns_of(x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The columns of a shape matrix by name."""
    return {name: x[:, index] for name, index in COLUMN.items()}


def _row(operator: Operator) -> tuple[float, ...]:
    if not operator.executed:
        raise UnsupportedError(
            f"a {operator.kind} is not executed, so it has no latency", hint="leave it out of the operators"
        )
    batch, positions, rows, channels_out = _extents(operator)
    extra = _extra_bytes(operator)
    steps = operator.macs or operator.elementary_steps
    return (
        batch, positions, rows, _channels_in(operator), channels_out, *_window(operator),
        max(1.0, steps / prod(operator.output)), BYTES_PER_ELEMENT[operator.dtype], steps,
        operator.input_bytes - extra, extra, operator.output_bytes, operator.weight_bytes, len(operator.fused),
    )  # fmt: skip


def _extents(operator: Operator) -> tuple[int, int, int, int]:
    """Batch, positions, rows and channels of the output; the last axis holds the channels of anything but a map."""
    shape = operator.output
    if operator.kind in (*CONVOLUTIONS, *POOLS, Kind.GLOBAL_POOL) or len(shape) == 4:
        return shape[0], prod(shape[2:]), shape[2] if len(shape) > 2 else 1, shape[1] if len(shape) > 1 else 1
    if len(shape) < 2:
        return 1, 1, 1, prod(shape)
    return shape[0], prod(shape[1:-1]), shape[1] if len(shape) > 2 else 1, shape[-1]


def _channels_in(operator: Operator) -> int:
    if operator.weights and len(operator.weights[0]) >= 2:
        return operator.weights[0][1] * (operator.window.groups if operator.window else 1)
    if not operator.inputs or not operator.inputs[0]:
        return 1
    first = operator.inputs[0]
    return first[1] if len(first) == 4 and operator.kind != Kind.MATMUL else first[-1]


def _window(operator: Operator) -> tuple[int, int, int]:
    """Taps, subsampling, groups."""
    window = operator.window
    return (1, 1, 1) if window is None else (window.taps, prod(window.stride), window.groups)


def _extra_bytes(operator: Operator) -> int:
    """Operands of the epilogue follow those of the operator itself."""
    own = 2 if operator.kind in (Kind.MATMUL, Kind.ADD, Kind.MUL, Kind.SUB, Kind.DIV) else 1
    if not operator.fused or operator.kind == Kind.CONCAT:
        return 0
    elements = sum(prod(shape) for shape in operator.inputs[own:])
    return elements * BYTES_PER_ELEMENT[operator.dtype]
