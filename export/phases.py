"""Transposed convolution as ordinary ones: one for each position of a stride × stride block of the output.

Output row o + stride × q gets input rows i through the taps y with o + stride × q = stride × i − pad + y. These are
the taps y = a + stride × t with a = (o + pad) mod stride, of input row q + (o + pad) div stride − t: a convolution with
the taps in reverse order. Columns alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..common.errors import ModelError
from ..kernels.movement_ops import TransposedConv2d
from ..kernels.ops import Conv2d, Window
from ..targets.cost import ceil_div
from .graph import ConvConstants, Graph, Node


@dataclass(frozen=True, slots=True)
class Phase:
    """`conv` makes output rows `row`, `row` + stride ... and such columns from the input from `start` on, with
    the taps `taps_h` × `taps_w` of the whole kernel. No taps at all stand for a single one of weight 0."""

    row: int
    col: int
    conv: Conv2d
    start: tuple[int, int]
    taps_h: tuple[int, ...]
    taps_w: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    """The same along one axis: `first` input element, leading padding, size of input and output."""

    offset: int
    taps: tuple[int, ...]
    first: int
    pad: int
    size: int
    count: int


def phases(op: TransposedConv2d) -> Iterator[Phase]:
    """The phases that have output elements.

    Raises:
        UnsupportedError: some element of the output lies beyond the reach of every tap.
    """
    w = op.window
    for down in _axes(w.kernel_h, w.stride_h, w.pad_h, op.input[0], op.output[0]):
        for right in _axes(w.kernel_w, w.stride_w, w.pad_w, op.input[1], op.output[1]):
            window = Window(max(1, len(down.taps)), max(1, len(right.taps)), 1, 1, down.pad, right.pad)
            shapes = (down.size, right.size, op.input[2]), (down.count, right.count, op.output[2])
            conv = Conv2d(*shapes, window, op.depthwise, op.dtype)
            yield Phase(down.offset, right.offset, conv, (down.first, right.first), down.taps, right.taps)


def _axes(kernel: int, stride: int, pad: int, size: int, output: int) -> Iterator[_Axis]:
    for offset in range(min(stride, output)):
        taps = tuple(range((offset + pad) % stride, kernel, stride))[::-1]
        before = max(1, len(taps)) - 1 - (offset + pad) // stride
        first = max(0, -before)
        yield _Axis(offset, taps, first, max(0, before), size - first, ceil_div(output - offset, stride))


def phase_constants(graph: Graph, node: Node, phase: Phase) -> ConvConstants:
    """The weights of a phase: its taps of the whole kernel, last one first."""
    whole = graph.constants[node.name]
    if not isinstance(whole, ConvConstants):
        raise ModelError("a transposed convolution needs weights", where=f"node {node.name!r}")
    window = phase.conv.window
    if phase.taps_h and phase.taps_w:
        weights = whole.weights[:, phase.taps_h][:, :, phase.taps_w]
    else:
        outputs, depth = whole.weights.shape[0], whole.weights.shape[3]
        weights = np.zeros((outputs, window.kernel_h, window.kernel_w, depth), whole.weights.dtype)
    return ConvConstants(np.ascontiguousarray(weights), whole.bias, whole.scales)
