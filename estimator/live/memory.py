"""How far away data is when an operator asks for it, in a network that runs again and again.

Data that was last touched more than a cache's capacity ago has left that cache. The passage is smooth because
replacement is not exactly least-recently-used, and because other data shares the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .executed import ExecutedNode, ExecutedOperator
from .work import is_view

_STEEPNESS = 4.0  # of the passage from "still in the cache" to "gone", as a power of distance / capacity


@dataclass(frozen=True, slots=True)
class Term:
    """An operator in its surroundings; `distant_bytes` come from beyond each cache of the device, per cache."""

    operator: ExecutedOperator
    distant_bytes: tuple[float, ...]


def footprint_bytes(nodes: Sequence[ExecutedNode]) -> float:
    """Bytes that one run touches: constants, and the most activations alive at once, whose memory is reused."""
    last = {name: position for position, node in enumerate(nodes) for name in (*node.inputs, *node.outputs)}
    alive: dict[str, int] = {}
    peak = 0
    for position, node in enumerate(nodes):
        values = zip(
            (*node.inputs, *filter(None, node.outputs)), (*node.operator.inputs, *node.operator.outputs), strict=True
        )
        alive.update({name: v.size_bytes for name, v in values if v is not None and not v.constant})
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last[name] > position}
    return float(peak + sum(node.operator.weight_bytes for node in nodes))


def terms(nodes: Sequence[ExecutedNode], caches: Sequence[int], *, footprint: float | None = None) -> list[Term]:
    """The operators of a model that runs again and again, each with the bytes that it fetches from afar.

    `caches` are capacities in bytes, from the innermost one that counts. Weights return once per run, so the whole
    `footprint` lies between two uses (that of `nodes`, unless they run as part of something larger). An activation
    returns after itself and what was touched since it was written; what comes from outside was written just before.
    Memory for results was used shortly before by something of the like size. Views touch nothing.
    """
    whole = footprint_bytes(nodes) if footprint is None else footprint
    touched, made, found = 0.0, dict[str, float](), []
    for node in nodes:
        operator = node.operator
        distances = [] if is_view(operator) else _distances(node, whole, touched, made)
        found.append(Term(operator, tuple(float(sum(s * gone(d, c) for s, d in distances)) for c in caches)))
        if is_view(operator):
            made.update({name: made.get(node.inputs[0], 0.0) for name in node.outputs})
            continue
        touched += operator.weight_bytes + operator.output_bytes
        made.update({name: touched for name in node.outputs})
    return found


def _distances(node: ExecutedNode, whole: float, touched: float, made: dict[str, float]) -> list[tuple[float, float]]:
    """(bytes, bytes touched since their last use) of each tensor that the operator reads or writes."""
    operator = node.operator
    found: list[tuple[float, float]] = []
    for name, value in zip(node.inputs, operator.inputs, strict=True):
        if value is not None:
            ago = whole if value.constant else min(whole, touched - made.get(name, touched) + value.size_bytes)
            found.append((value.size_bytes, ago))
    moved = operator.input_bytes + operator.output_bytes
    return [*found, *((value.size_bytes, moved) for value in operator.outputs)]


def gone(distance: float, capacity: float) -> float:
    """Share of data that has left a cache of `capacity` bytes after `distance` other bytes, 0..1."""
    ratio = (distance / capacity) ** _STEEPNESS
    return ratio / (1 + ratio)
