"""Random operators of the vector unit beyond pooling and addition: which, with what attributes, for a given map."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from ..kernels.function_ops import MAX_GROUP, Mul, Norm, Reduce, Reduction, Resize, Scale, Softmax, Table
from ..kernels.ops import Op, Shape

_LARGEST = 60  # rows or columns after a resize


def random_function(rng: np.random.Generator, shape: Shape, kind: str) -> Op:
    """An operator on a map of `shape`; `kind` is a key of `FUNCTIONS`."""
    return FUNCTIONS[kind](rng, shape)


def _layer_norm(rng: np.random.Generator, shape: Shape) -> Op:
    return Norm(shape, _divisor(rng, shape[2]) if rng.random() < 0.3 else 1)


def _group_norm(rng: np.random.Generator, shape: Shape) -> Op:
    groups = _divisor(rng, shape[2])
    return Norm(shape, groups, over_map=prod(shape) // groups <= MAX_GROUP)


def _reduce(rng: np.random.Generator, shape: Shape) -> Op:
    mode = Reduction(str(rng.choice([m.value for m in Reduction])))
    count = shape[2] if rng.random() < 0.5 else _divisor(rng, shape[2])
    return Reduce(shape, (*shape[:2], shape[2] // count), mode)


def _resize(rng: np.random.Generator, shape: Shape) -> Op:
    """Both axes by scales of their own; mostly by small factors with one of ONNX's coordinate conventions."""
    (height, vertical), (width, horizontal) = (_axis(rng, size) for size in shape[:2])
    return Resize(shape, (height, width, shape[2]), vertical, horizontal, bilinear=bool(rng.random() < 0.6))


def _axis(rng: np.random.Generator, size: int) -> tuple[int, Scale]:
    """Output size and scale: half-pixel centres, or aligned at the first element, for outputs of up / down times."""
    up, down = (int(v) for v in rng.integers(1, 5, 2))
    outputs = max(1, min(_LARGEST, size * up // down))
    scale = Scale(2 * up, 2 * down, down - up) if rng.random() < 0.5 else Scale(up, down)
    while outputs > 1 and scale.index(outputs - 1) >= size:
        outputs -= 1
    return (outputs, scale) if -1 <= scale.index(0) < size and _borders(scale, size, outputs) else (size, Scale(1, 1))


def _borders(scale: Scale, size: int, outputs: int) -> bool:
    """TOSA crops at most 16 elements."""
    return (outputs - 1) * scale.denominator + scale.offset >= (size - 17) * scale.numerator


def _divisor(rng: np.random.Generator, value: int) -> int:
    return int(rng.choice([d for d in range(1, value + 1) if value % d == 0]))


FUNCTIONS: dict[str, Callable[[np.random.Generator, Shape], Op]] = {
    "table": lambda _, shape: Table(shape),
    "mul": lambda _, shape: Mul(shape),
    "gate": lambda _, shape: Mul(shape, gate=True),
    "softmax": lambda _, shape: Softmax(shape),
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "reduce": _reduce,
    "resize": _resize,
}
