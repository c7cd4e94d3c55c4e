"""A convolution behind a nearest upsampling by whole factors, as convolutions of the small map.

Output row o + s × q reads rows o + s × q + y − pad of the large map, which are rows q + (o + y − pad) div s of the
small one. Taps with the same quotient read the same element, so that the sum of their weights does for all of them:
s × s phases with fewer taps each, and the large map never exists. Padding stays padding, since the large map ends
where the small one does. The sums must be int8 for every channel and phase: otherwise there is no fold, and the resize
is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from ..kernels.function_ops import Resize, Scale
from ..kernels.ops import Conv2d, Shape, Window
from ..targets.cost import ceil_div
from .graph import ConvConstants
from .phases import Phase

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One offset along one axis: taps by the input element that they share, first element, padding and sizes."""

    offset: int
    groups: Groups
    first: int
    pad: int
    size: int
    count: int


def factors(op: Resize) -> tuple[int, int] | None:
    """By how much rows and columns are repeated; None for any other resize."""
    (height, width, _), (rows, cols, _) = op.input, op.output
    if op.bilinear or rows % height or cols % width:
        return None
    repeats = rows // height, cols // width
    exact = _repeats(op.vertical, height, repeats[0]) and _repeats(op.horizontal, width, repeats[1])
    return repeats if exact and repeats != (1, 1) else None


def _repeats(scale: Scale, size: int, factor: int) -> bool:
    nearest = (
        (i * scale.denominator + scale.offset + scale.numerator // 2) // scale.numerator for i in range(size * factor)
    )
    return all(min(max(found, 0), size - 1) == i // factor for i, found in enumerate(nearest))


def folds(
    conv: Conv2d, source: Shape, repeats: tuple[int, int], constants: ConvConstants
) -> list[tuple[Phase, ConvConstants]] | None:
    """The phases of `conv`, which reads `source` with its rows and columns repeated; None where a sum leaves int8.

    bf16 has none: there a sum of weights, times an element, is not the sum of the products to the last bit.
    """
    w = conv.window
    if (w.stride_h, w.stride_w) != (1, 1) or conv.dtype == "bf16":
        return None
    found: list[tuple[Phase, ConvConstants]] = []
    try:
        for down in _axes(w.kernel_h, repeats[0], w.pad_h, source[0], conv.output[0]):
            for right in _axes(w.kernel_w, repeats[1], w.pad_w, source[1], conv.output[1]):
                weights = _summed(constants.weights, down.groups, right.groups)
                if weights is None:
                    return None
                found.append(
                    (_phase(conv, source, down, right), ConvConstants(weights, constants.bias, constants.scales))
                )
    except UnsupportedError:  # a phase whose last window lies behind the map
        return None
    return found


def _axes(kernel: int, factor: int, pad: int, size: int, output: int) -> Iterator[_Axis]:
    for offset in range(min(factor, output)):
        reads = [(offset + y - pad) // factor for y in range(kernel)]
        groups = tuple(
            tuple(y for y, read in enumerate(reads) if read == place) for place in range(reads[0], reads[-1] + 1)
        )
        first = max(0, reads[0])
        yield _Axis(offset, groups, first, max(0, -reads[0]), size - first, ceil_div(output - offset, factor))


def _phase(conv: Conv2d, source: Shape, down: _Axis, right: _Axis) -> Phase:
    window = Window(len(down.groups), len(right.groups), 1, 1, down.pad, right.pad)
    shapes = (down.size, right.size, source[2]), (down.count, right.count, conv.output[2])
    part = Conv2d(*shapes, window, conv.depthwise, conv.dtype)
    return Phase(down.offset, right.offset, part, (down.first, right.first), (), ())


def _summed(weights: NDArray[np.int8], down: Groups, right: Groups) -> NDArray[np.int8] | None:
    wide = weights.astype(np.int64)
    rows = np.stack([wide[:, list(taps)].sum(1) for taps in down], axis=1)
    sums = np.stack([rows[:, :, list(taps)].sum(2) for taps in right], axis=2)
    return sums.astype(np.int8) if sums.min() >= -128 and sums.max() <= 127 else None
