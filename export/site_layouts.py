"""The layout in which each operator of a site wants its operands."""

from __future__ import annotations

from math import prod

from ..common.errors import UnsupportedError
from .operands import Layout, is_matrices, layout
from .patterns import Normalisation, Unary
from .sites import LINEAR, Site, reduced_axes

_FIRST = frozenset({
    "AveragePool", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "MaxPool", "Resize", "SpaceToDepth",
})  # fmt: skip
_REDUCTIONS = frozenset({"ReduceMean", "ReduceMax", "ReduceSum"})
_OWN = _REDUCTIONS | {"Concat", "Slice", "Pad", "Transpose"}


def operand_layouts(site: Site) -> list[Layout]:
    """For each operand of a site whose shapes the rules have let pass.

    Raises:
        UnsupportedError: a tensor of more axes than a map has.
    """
    found = [_layout(site, position) for position in range(len(site.inputs))]
    missing = [name for name, known in zip(site.stored_inputs, found, strict=True) if known is None]
    if missing:
        raise UnsupportedError(f"{missing[0]} {list(site.index.shape(missing[0]))}")
    return [known for known in found if known is not None]


def _layout(site: Site, position: int) -> Layout | None:
    stored, kind = site.stored_inputs[position], site.node.op_type
    shape = site.index.shape(stored)
    if site.is_product:
        return matrices(shape)
    if kind in LINEAR:
        return layout(shape, channels_last=True)
    if kind in _FIRST:
        return layout(shape)
    if kind == "Softmax":
        return _rows(layout(shape, channels_last=is_matrices(site.index, site.node)))
    if isinstance(site.pattern, Normalisation):
        return layout(shape, channels_last=is_matrices(site.index, site.node))
    output = site.layouts.of(site.output)
    if kind == "Concat":
        return layout(shape, channels_last=output is not None and output.channels_last)
    if kind in _OWN and not isinstance(site.pattern, Unary):
        return site.layouts.seen(stored)
    return _like(output, shape, site.index.shape(site.output)) if kind == "Mul" else output


def _rows(found: Layout | None) -> Layout | None:
    """Matrices below each other: a stripe may then be some rows of a matrix instead of all of it."""
    if found is None or not found.channels_last:
        return found
    return Layout((found.shape[0] * found.shape[1], 1, found.shape[2]), True)


def _like(output: Layout | None, shape: tuple[int, ...], whole: tuple[int, ...]) -> Layout | None:
    """That of the result, or of one value for each of its channels."""
    if output is None or prod(shape) == prod(output.shape):
        return output
    aligned = (*(1 for _ in range(len(whole) - len(shape))), *shape)
    axes = [output.axis(axis, len(whole)) for axis, size in enumerate(aligned) if size > 1]
    if axes == [2]:
        return Layout((1, 1, output.shape[2]), output.channels_last)
    return output


def matrices(shape: tuple[int, ...]) -> Layout | None:
    """(1, M, N) or (1, G, M, N) as G matrices."""
    return Layout((prod(shape[1:-2]), shape[-2], shape[-1]), True) if len(shape) in (3, 4) else None


def reduced_map_axes(site: Site) -> tuple[int, ...] | None:
    """Axes of the map that a reduction goes over; None where they are computed, or are no axes of a map."""
    axes = reduced_axes(site)
    held = site.layouts.seen(site.stored_inputs[0])
    if axes is None or held is None:
        return None
    rank = len(site.index.shape(site.stored_inputs[0]))
    places = {held.axis(axis, rank) for axis in axes}
    if None in places:
        return None
    free = {axis for axis, size in enumerate(held.shape[:2]) if size == 1 and rank == 3}
    found = sorted(place for place in places if place is not None)
    return tuple(sorted({*found, *free})) if 2 not in found else tuple(found)
