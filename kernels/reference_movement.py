"""What operators that move elements mean, as plain indexing, and transposed convolution as its scatter definition.

Written apart from the compiler's phases and views, so that agreement of both says something.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .movement_ops import Concat, DepthToSpace, Pad, Rearrange, Slice, SpaceToDepth, Transpose, TransposedConv2d
from .reference import Map, Stage, finish


def concat(inputs: list[Map], op: Concat) -> Map:
    """Maps (batch, rows, columns, channels) one after the other."""
    return np.concatenate(inputs, axis=op.axis + 1)


def rearrange(x: Map, op: Slice | Pad | Transpose | Rearrange | DepthToSpace | SpaceToDepth, zero_point: int) -> Map:
    """The elements of `x` in another order; `zero_point` fills what a padding adds."""
    rows, cols, channels = op.output
    match op:
        case Slice():
            (r, c, k), (down, right) = op.start, op.steps
            return x[:, r::down, c::right, k:][:, :rows, :cols, :channels]
        case Pad():
            result = np.full((len(x), *op.output), zero_point, x.dtype)
            result[:, op.top : op.top + op.input[0], op.left : op.left + op.input[1]] = x
            return result
        case Transpose():
            return x.swapaxes(1, 2)
        case Rearrange():
            return _in_steps(x, op)
        case DepthToSpace():
            blocks = x.reshape(len(x), *op.input[:2], op.block, op.block, channels)
            if op.columns_first:
                blocks = x.reshape(len(x), *op.input[:2], channels, op.block, op.block).transpose(0, 1, 2, 4, 5, 3)
            return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), *op.output)
        case SpaceToDepth():
            blocks = x.reshape(len(x), rows, op.block, cols, op.block, op.input[2])
            return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), *op.output)


def _in_steps(x: Map, op: Rearrange) -> Map:
    """Element by element where the steps lead, as the operator's docstring says it."""
    result = np.empty((len(x), *op.output), x.dtype)
    given, taken = x.reshape(len(x), -1), result.reshape(len(x), -1)
    rows, cols, channels = op.input if op.scatter else op.output
    for r in range(rows):
        for c in range(cols):
            there = op.start + r * op.steps[0] + c * op.steps[1] + np.arange(channels) * op.steps[2]
            here = (r * cols + c) * channels + np.arange(channels)
            if op.scatter:
                taken[:, there] = given[:, here]
            else:
                taken[:, here] = given[:, there]
    return result


def transposed_conv2d(
    x: Map, zero_point: int, weights: NDArray[np.int8], bias: NDArray[np.integer], op: TransposedConv2d, stage: Stage
) -> Map:
    """Every input element adds its products to the outputs under the kernel that it is the origin of."""
    w, (rows, cols, channels) = op.window, op.output
    height, width, _ = op.input
    reach = ((height - 1) * w.stride_h + w.kernel_h, (width - 1) * w.stride_w + w.kernel_w)
    sums = np.zeros((len(x), max(reach[0], rows + w.pad_h), max(reach[1], cols + w.pad_w), channels), np.int64)
    source = x.astype(np.int64) - zero_point
    for y in range(w.kernel_h):
        for z in range(w.kernel_w):
            tap = weights[:, y, z, :].astype(np.int64)
            product = source * tap[:, 0] if op.depthwise else source @ tap.T
            down = slice(y, y + (height - 1) * w.stride_h + 1, w.stride_h)
            right = slice(z, z + (width - 1) * w.stride_w + 1, w.stride_w)
            sums[:, down, right] += product
    inside = sums[:, w.pad_h : w.pad_h + rows, w.pad_w : w.pad_w + cols]
    return finish(inside + bias, stage)
