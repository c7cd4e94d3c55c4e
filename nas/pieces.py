"""Architectures as the pieces that screening estimates: their blocks as chains of steps, or operator graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from ..common.errors import UnsupportedError
from ..estimator.pieces import Chain, GraphPiece, Piece, Step
from .bridge import INPUT, WINDOWED, to_graph, windowed

if TYPE_CHECKING:
    from ..models.architecture import Architecture
    from ..models.layers import BlockForm, LayerBlock, LayerSpec

_FORMS = 32_768  # blocks that are remembered: a whole search seldom meets as many


def to_pieces(blocks: Sequence[LayerBlock]) -> tuple[Piece, ...]:
    """The blocks of a network as pieces. Blocks alike but for names and clamps, at equal ends, are one piece; blocks
    that share more than one map with what follows are taken together.

    Raises:
        UnsupportedError: a network without layers, or one that reads more than one map.
    """
    if not blocks:
        raise UnsupportedError("a network without layers has no graph")
    if _in_a_row(blocks):
        final = len(blocks) - 1
        return tuple(_form_piece(block.form, not number, number == final) for number, block in enumerate(blocks))
    groups = _cut(blocks)
    final = len(groups) - 1
    return tuple(_joined(group, not number, number == final) for number, group in enumerate(groups))


def architecture_pieces(architecture: Architecture, *, input_channels: int, classes: int) -> tuple[Piece, ...]:
    """The pieces of an architecture of any registered family."""
    from ..models.registry import families

    family = families.get(architecture.family)
    return to_pieces(family.blocks(architecture, input_channels=input_channels, classes=classes))


def _in_a_row(blocks: Sequence[LayerBlock]) -> bool:
    """True where every block reads what the one before it gives, and nothing else."""
    before = INPUT
    for block in blocks:
        if block.before != before or not _reads_input_only(block.form):
            return False
        before = block.last
    return True


@lru_cache(maxsize=_FORMS)
def _reads_input_only(form: BlockForm) -> bool:
    return _outside(form.layers) == {INPUT}


def _outside(layers: Sequence[LayerSpec]) -> set[str]:
    """Names that the layers read and that are none of them."""
    return {name for layer in layers for name in layer.inputs} - {layer.name for layer in layers}


def _cut(blocks: Sequence[LayerBlock]) -> list[tuple[LayerBlock, ...]]:
    """The blocks between places where a single map is handed on."""
    made = {INPUT: -1} | {layer.name: place for place, block in enumerate(blocks) for layer in block.layers}
    shared = {
        place
        for reader, block in enumerate(blocks)
        for name in _read_by(block)
        for place in range(made.get(name, -1), reader)
        if name != (INPUT if place < 0 else blocks[place].last)
    }
    groups: list[tuple[LayerBlock, ...]] = [()]
    for place, block in enumerate(blocks):
        groups[-1] = (*groups[-1], *((block,) if block.form.layers else ()))
        if place not in shared and groups[-1]:
            groups.append(())
    return [group for group in groups if group]


@lru_cache(maxsize=_FORMS)
def _read_by(block: LayerBlock) -> frozenset[str]:
    return frozenset(_outside(block.layers))


@lru_cache(maxsize=_FORMS)
def _joined(blocks: tuple[LayerBlock, ...], first: bool, last: bool) -> Piece:
    return _shared(_nameless([layer for block in blocks for layer in block.layers]), first, last)


@lru_cache(maxsize=_FORMS)
def _form_piece(form: BlockForm, first: bool, last: bool) -> Piece:
    return _shared(form.layers, first, last)


def _shared(layers: tuple[LayerSpec, ...], first: bool, last: bool) -> Piece:
    """The piece of layers that read "input"."""
    body, carried = (layers[:-1], True) if _is_residual(layers) else (layers, False)
    if not all(map(_is_step, body, (INPUT, *(layer.name for layer in body)))):
        return _graph_piece(_nameless(layers), first, last)
    final = len(body) - 1
    return _chain(tuple(_step_of(layer, carried and n == final) for n, layer in enumerate(body)), carried, first, last)


def _is_residual(layers: Sequence[LayerSpec]) -> bool:
    """True where the last layer adds what came into the block to a convolution."""
    if len(layers) < 2 or str(layers[-1].kind) != "add":
        return False
    convolves = str(layers[-2].kind) in WINDOWED and str(layers[-2].kind) != "global_average_pool"
    return convolves and sorted(layers[-1].inputs) == sorted((layers[-2].name, INPUT))


def _is_step(layer: LayerSpec, before: str) -> bool:
    return str(layer.kind) in WINDOWED and layer.activation != "sigmoid" and layer.inputs == (before,)


def _step_of(layer: LayerSpec, residual: bool) -> Step:
    window = layer.kernel, layer.stride, layer.padding
    return _step(str(layer.kind), layer.input_shape, layer.output_shape, window, residual)


@lru_cache(maxsize=_FORMS)
def _step(
    kind: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...], window: tuple[int, int, int], residual: bool
) -> Step:
    return Step.of(windowed(kind, input_shape, output_shape, window), residual=residual)


@lru_cache(maxsize=_FORMS)
def _chain(steps: tuple[Step, ...], carried: bool, first: bool, last: bool) -> Chain:
    return Chain(steps, carried, first, last)


@lru_cache(maxsize=_FORMS)
def _graph_piece(layers: tuple[LayerSpec, ...], first: bool, last: bool) -> GraphPiece:
    return GraphPiece(partial(to_graph, layers), first, last)


def _nameless(layers: Sequence[LayerSpec]) -> tuple[LayerSpec, ...]:
    """The layers named by number; whatever they read that is none of them is the input.

    Raises:
        UnsupportedError: they read more than one map from outside.
    """
    names = {layer.name: str(number) for number, layer in enumerate(layers)}
    if len(outside := _outside(layers)) != 1:
        raise UnsupportedError(
            f"a block that reads {', '.join(sorted(outside)) or 'nothing'} is no piece by itself", where=layers[0].name
        )
    return tuple(
        replace(layer, name=names[layer.name], inputs=tuple(names.get(name, INPUT) for name in layer.inputs))
        for layer in layers
    )
