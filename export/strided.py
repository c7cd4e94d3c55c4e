"""`Rearrange` as views: how steps through a flat map read as steps of rows, columns and channels, and what must be
copied where no view says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

from ..common.errors import UnsupportedError
from ..kernels.movement_ops import Rearrange, strides
from ..kernels.ops import Shape
from .graph import View

_CHANNEL: Shape = (0, 0, 1)
_MOST_PIECES = 256  # copies that one operator may become


def gathered(op: Rearrange, whole: str) -> View | None:
    """The output as a view of the input `whole`; None where only the input is a view of the output."""
    found = (op.start, op.steps) if not op.scatter else strides(op.indices)
    return None if found is None else view(whole, op.input, op.output, *found)


def scattered(op: Rearrange, whole: str) -> View | None:
    """The input as a view of the output `whole`; None where elements are left out, or no steps describe it."""
    if op.scatter:
        return view(whole, op.output, op.input, op.start, op.steps)
    if prod(op.input) != prod(op.output):
        return None
    order = op.indices.reshape(-1)
    inverse = np.empty_like(order)
    inverse[order] = np.arange(order.size)
    found = strides(inverse.reshape(op.input)) if len(np.unique(order)) == order.size else None
    return None if found is None else view(whole, op.output, op.input, *found)


def view(whole: str, extents: Shape, shape: Shape, start: int, steps: Shape) -> View:
    """A view of `shape` by flat steps through a map of `extents`; an axis of one element takes its usual step."""
    usual = ((1, 0, 0), (0, 1, 0), _CHANNEL)
    row, col, channel = (place(step, extents) if n > 1 else u for n, step, u in zip(shape, steps, usual, strict=True))
    return View(whole, place(start, extents), row, col, _CHANNEL if steps[2] == 1 else channel)


def place(flat: int, extents: Shape) -> Shape:
    """Row, column and channel of the element with this number."""
    row, rest = divmod(flat, extents[1] * extents[2])
    return row, *divmod(rest, extents[2])


def has_channels(found: View) -> bool:
    """Whether channels lie side by side, as every kernel reads and writes them."""
    return found.channel_step == _CHANNEL


def stays_inside(found: View, shape: Shape, extents: Shape) -> bool:
    """Whether no step runs over the end of a row or of a column's channels."""
    return all(low >= 0 and high < n for (low, high), n in zip(found.box(shape), extents, strict=True))


def composes(found: View, shape: Shape, extents: Shape, outer: View, whole: Shape) -> bool:
    """Whether `found`, of `shape` within a map of `extents`, can be seen from the `whole` that this map is a view of:
    steps that run over the end of a row need rows that follow each other there too."""
    if stays_inside(found, shape, extents):
        return True
    row, col, channel = (a * whole[1] * whole[2] + b * whole[2] + c for a, b, c in outer.steps)
    return (extents[0] == 1 or row == extents[1] * col) and (extents[1] == 1 or col == extents[2] * channel)


def turned(found: View, shape: Shape) -> tuple[View, Shape]:
    """The same elements with columns and channels exchanged."""
    other = replace(found, col_step=found.channel_step, channel_step=found.col_step)
    return other, (shape[0], shape[2], shape[1])


@dataclass(frozen=True, slots=True)
class _Axis:
    """`count` elements, and the distance between two of them in the source and in the target."""

    count: int
    source: int
    target: int


def pieces(op: Rearrange, source: str, target: str) -> Iterator[tuple[Shape, View, View]]:
    """Copies that carry the operator out: shape, where it is read in `source`, where it is written in `target`.

    Raises:
        UnsupportedError: more copies than any schedule should hold.
    """
    inner = op.input if op.scatter else op.output
    dense = (inner[1] * inner[2], inner[2], 1)
    steps = zip(inner, dense, op.steps, strict=True) if op.scatter else zip(inner, op.steps, dense, strict=True)
    axes = _merged([_Axis(*axis) for axis in steps if axis[0] > 1])
    side_by_side = next((axis for axis in axes if axis.source == axis.target == 1), _Axis(1, 1, 1))
    axes = sorted((axis for axis in axes if axis is not side_by_side), key=lambda axis: axis.count)
    looped, kept = axes[:-2], [_Axis(1, 0, 0)] * (2 - len(axes[-2:])) + axes[-2:]
    if prod(axis.count for axis in looped) > _MOST_PIECES:
        raise UnsupportedError(f"{op.output} takes {prod(axis.count for axis in looped)} copies out of {op.input}")
    shape = (kept[0].count, kept[1].count, side_by_side.count)
    starts = (0, op.start) if op.scatter else (op.start, 0)
    for at in product(*(range(axis.count) for axis in looped)):
        first = starts[0] + sum(n * axis.source for n, axis in zip(at, looped, strict=True))
        there = starts[1] + sum(n * axis.target for n, axis in zip(at, looped, strict=True))
        read = view(source, op.input, shape, first, (kept[0].source, kept[1].source, 1))
        yield shape, read, view(target, op.output, shape, there, (kept[0].target, kept[1].target, 1))


def _merged(axes: list[_Axis]) -> list[_Axis]:
    """Neighbouring axes that are one in the source and in the target."""
    found: list[_Axis] = []
    for axis in axes:
        last = found[-1] if found else None
        if last and (last.source, last.target) == (axis.count * axis.source, axis.count * axis.target):
            found[-1] = _Axis(last.count * axis.count, axis.source, axis.target)
        else:
            found.append(axis)
    return found
