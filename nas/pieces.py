"""Architectures as the pieces that screening estimates: their blocks as operator graphs of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..common.errors import UnsupportedError
from ..estimator.screening import Piece
from .bridge import INPUT, to_graph

if TYPE_CHECKING:
    from ..models.architecture import Architecture
    from ..models.layers import LayerBlock, LayerSpec

_KNOWN_PIECES: WeakKeyDictionary[LayerBlock, dict[tuple[bool, bool], Piece]] = WeakKeyDictionary()


def to_pieces(blocks: Sequence[LayerBlock]) -> tuple[Piece, ...]:
    """The blocks of a network as graphs of their own. Blocks alike but for names, at equal ends, are one piece."""
    if not blocks:
        raise UnsupportedError("a network without layers has no graph")
    final = len(blocks) - 1
    return tuple(_piece(block, not number, number == final) for number, block in enumerate(blocks))


def architecture_pieces(architecture: Architecture, *, input_channels: int, classes: int) -> tuple[Piece, ...]:
    """The pieces of an architecture of any registered family."""
    from ..models.registry import families

    family = families.get(architecture.family)
    return to_pieces(family.blocks(architecture, input_channels=input_channels, classes=classes))


def _piece(block: LayerBlock, first: bool, last: bool) -> Piece:
    known = _KNOWN_PIECES.setdefault(block, {})
    ends = first, last
    if ends not in known:
        known[ends] = _shared_piece(_nameless(block.layers), first, last)
    return known[ends]


@lru_cache(maxsize=100_000)
def _shared_piece(layers: tuple[LayerSpec, ...], first: bool, last: bool) -> Piece:
    return Piece(partial(to_graph, layers), first, last)


def _nameless(layers: Sequence[LayerSpec]) -> tuple[LayerSpec, ...]:
    """The layers named by number; whatever they read that is none of them is the input.

    Raises:
        UnsupportedError: they read more than one map from outside.
    """
    names = {layer.name: str(number) for number, layer in enumerate(layers)}
    if len(outside := {name for layer in layers for name in layer.inputs if name not in names}) != 1:
        raise UnsupportedError(
            f"a block that reads {', '.join(sorted(outside)) or 'nothing'} is no piece by itself", where=layers[0].name
        )
    return tuple(
        replace(layer, name=names[layer.name], inputs=tuple(names.get(name, INPUT) for name in layer.inputs))
        for layer in layers
    )
