"""Random nodes that move elements, for graphs that equality is tested on."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import UnsupportedError
from ..kernels.movement_ops import (
    Concat,
    DepthToSpace,
    Pad,
    Rearrange,
    Slice,
    SpaceToDepth,
    Transpose,
    TransposedConv2d,
)
from ..kernels.ops import Add, Conv2d, MatMul, Requantise, Shape, Window

if TYPE_CHECKING:
    from .random_graphs import GraphBuilder

MOVES = (
    "concat",
    "slice",
    "pad",
    "transpose",
    "blocks",
    "transposed",
    "dense",
    "split",
    "rearrange",
    "product",
    "fixed",
)
_MOST_ELEMENTS = 60_000
_MOST_PRODUCTS = 2_000_000


def move(build: GraphBuilder, current: str, kind: str = "") -> str:
    """One or a few nodes that move elements of `current`, of a kind in `MOVES`; returns the newest map.

    That is `current` itself where its shape does not suit the kind.
    """
    rng, shape = build.rng, build.tensors[current].shape
    match kind or rng.choice(MOVES):
        case "concat":
            return _concat(build, current, int(rng.integers(0, 3)))
        case "dense":  # as in DenseNet: the new channels stand beside what they were made from
            channels = int(rng.choice([4, 8, 16]))
            new = build.add_node(Conv2d(shape, (*shape[:2], channels), Window(3, 3, 1, 1, 1, 1)), current)
            return _joined(build, [current, new], 2)
        case "slice":
            return build.add_node(_slice(rng, shape), current)
        case "split":  # the halves change places
            if shape[2] < 2:
                return current
            half = shape[2] // 2
            first = build.add_node(Slice(shape, (*shape[:2], half)), current, keep_scale=True)
            rest = build.add_node(Slice(shape, (*shape[:2], shape[2] - half), (0, 0, half)), current, keep_scale=True)
            return _joined(build, [rest, first], 2)
        case "pad":
            top, left, bottom, right = (int(v) for v in rng.integers(0, 3, 4))
            padded = (shape[0] + top + bottom, shape[1] + left + right, shape[2])
            name = build.add_node(Pad(shape, padded, top, left), current, keep_scale=True)
            if rng.random() < 0.6 and min(padded[:2]) >= 3:
                out = (padded[0] - 2, padded[1] - 2, int(rng.choice([4, 8, 17])))
                return build.add_node(Conv2d(padded, out, Window(3, 3)), name)
            return name
        case "transpose":
            return build.add_node(Transpose(shape), current, keep_scale=bool(rng.random() < 0.7))
        case "blocks":
            block = int(rng.choice([2, 3]))
            if shape[2] % block**2 == 0:
                return build.add_node(DepthToSpace(shape, block), current, keep_scale=bool(rng.random() < 0.5))
            if shape[0] % block == 0 and shape[1] % block == 0:
                return build.add_node(SpaceToDepth(shape, block), current, keep_scale=bool(rng.random() < 0.5))
            return current
        case "rearrange":
            op = _rearranged(rng, shape)
            return build.add_node(op, current, keep_scale=bool(rng.random() < 0.8)) if op else current
        case "product":  # of a map's matrices with their turned selves, as queries with keys
            if prod(shape) * shape[1] > _MOST_PRODUCTS or shape[0] * shape[1] ** 2 > _MOST_ELEMENTS:
                return current
            other = build.add_node(Requantise(shape), current)
            indices = np.arange(prod(shape)).reshape(shape).swapaxes(1, 2)
            keys = build.add_node(Rearrange.of(shape, indices), other, keep_scale=True)
            return build.add_node(MatMul(shape, (shape[0], shape[2], shape[1])), current, keys)
        case "fixed":
            other = build.fixed_map(shape, build.tensors[current].quantisation.scale * float(rng.uniform(0.5, 2)))
            names = [str(n) for n in rng.permutation([current, other])]
            if rng.random() < 0.5 and 2 * prod(shape) <= _MOST_ELEMENTS:
                return build.add_node(Concat((shape, shape), int(rng.integers(0, 3))), *names)
            return build.add_node(Add(shape), *names)
        case _:
            return _transposed(build, current)


def _rearranged(rng: np.random.Generator, shape: Shape) -> Rearrange | None:
    """One axis split, all axes in another order, some joined or cut again; None where no steps describe that."""
    axis = int(rng.integers(0, 3))
    factors = [n for n in range(1, shape[axis] + 1) if shape[axis] % n == 0]
    split = int(rng.choice(factors))
    extents = [*shape[:axis], split, shape[axis] // split, *shape[axis + 1 :]]
    order = np.arange(prod(shape)).reshape(extents)
    order = order.transpose(rng.permutation(4) if rng.random() < 0.8 else np.arange(4))
    joined = int(rng.integers(0, 3))
    sizes = (*order.shape[:joined], order.shape[joined] * order.shape[joined + 1], *order.shape[joined + 2 :])
    order = order.reshape(sizes)
    if rng.random() < 0.2:
        order = order[int(rng.integers(0, sizes[0])) :, :: int(rng.choice([1, 2]))]
    try:
        return replace(Rearrange.of(shape, order), keeps_integers=bool(rng.random() < 0.3))
    except UnsupportedError:
        return None


def _concat(build: GraphBuilder, current: str, axis: int) -> str:
    """`current` and maps that fit to it, now and then itself again, or a new one made of it."""
    rng, shape = build.rng, build.tensors[current].shape
    others = [n for n, t in build.tensors.items() if all(t.shape[a] == shape[a] for a in range(3) if a != axis)]
    names = [current, *(str(rng.choice(others)) for _ in range(int(rng.integers(0, 3))))]
    if rng.random() < 0.6:
        channels = int(rng.choice([4, 16])) if axis == 2 else shape[2]
        names.append(build.add_node(Conv2d(shape, (*shape[:2], channels), Window(1, 1)), current))
    names = [str(n) for n in rng.permutation(names)]
    if sum(build.tensors[n].size_bytes for n in names) > _MOST_ELEMENTS:
        return current
    return _joined(build, names, axis)


def _joined(build: GraphBuilder, names: list[str], axis: int) -> str:
    """Mostly with one scale for operands and result, as quantisers arrange it."""
    shapes = tuple(build.tensors[n].shape for n in names)
    if build.rng.random() < 0.8:
        build.unify(names)
    return build.add_node(Concat(shapes, axis), *names, keep_scale=bool(build.rng.random() < 0.8))


def _slice(rng: np.random.Generator, shape: Shape) -> Slice:
    start = [int(rng.integers(0, n)) for n in shape]
    steps = [int(rng.choice([1, 1, 1, 2])) for _ in range(2)]
    counts = [int(rng.integers(1, -(-(n - a) // s) + 1)) for n, a, s in zip(shape, start, (*steps, 1), strict=True)]
    return Slice(shape, (counts[0], counts[1], counts[2]), (start[0], start[1], start[2]), (steps[0], steps[1]))


def _transposed(build: GraphBuilder, source: str) -> str:
    """Kernel, stride, padding and extra rows drawn freely; what no tap reaches is left out."""
    rng, shape = build.rng, build.tensors[source].shape
    sizes: list[int] = []
    window: list[tuple[int, int, int]] = []
    for extent in shape[:2]:
        kernel, stride = int(rng.choice([1, 2, 3, 4, 5])), int(rng.choice([1, 2, 2, 3]))
        pad = int(rng.integers(0, (kernel + 1) // 2))
        extra = int(rng.integers(0, stride)) if kernel >= stride else 0
        size = (extent - 1) * stride - 2 * pad + kernel + extra
        reach = (extent - 1) * stride - pad + stride  # the first tap of the last input row, and its whole block
        sizes.append(min(size, reach))
        window.append((kernel, stride, pad))
    depthwise = bool(rng.random() < 0.3)
    channels = shape[2] if depthwise else int(rng.choice([1, 3, 8, 16, 20]))
    if min(sizes) < 1 or sizes[0] * sizes[1] * channels > _MOST_ELEMENTS:
        return source
    (kernel_h, stride_h, pad_h), (kernel_w, stride_w, pad_w) = window
    op = TransposedConv2d(
        shape, (sizes[0], sizes[1], channels), Window(kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w), depthwise
    )
    return build.add_node(op, source)
