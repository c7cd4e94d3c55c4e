"""SRAM addresses for buffers with lifetimes: no two that live at the same time overlap.

Blocks may be *joined*: they keep their distance to each other, and share bytes where the plan wants that (an output
that overwrites its input). What is joined moves as one body, whose extent changes from step to step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 16
_SWAPS = 300  # orders that the climb tries at most
_PATIENCE = 40  # orders in a row without a gain


@dataclass(frozen=True, slots=True)
class Block:
    """`size_bytes` that must exist from step `first` to step `last`, both included."""

    name: str
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A block within its body: `offset` from the body's address."""

    name: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Body:
    """Pieces at fixed distances."""

    name: str
    pieces: tuple[_Piece, ...]
    size: int
    first: int
    last: int


Joined = Mapping[str, tuple[str, int]]
_Placement = tuple[dict[str, int], int]


def live_bytes(blocks: Sequence[Block], joined: Joined | None = None, *, steps: int) -> list[int]:
    """Bytes that the blocks take at each step at least; what joined ones share counts once."""
    live = [0] * steps
    for body in _bodies(blocks, joined or {}):
        for step in range(body.first, body.last + 1):
            live[step] += _covered([piece for piece in body.pieces if piece.first <= step <= piece.last])
    return live


def _covered(pieces: list[_Piece]) -> int:
    if len(pieces) == 1:
        return pieces[0].size
    total = reached = 0
    for piece in sorted(pieces, key=lambda piece: piece.offset):
        end = piece.offset + piece.size
        total += max(0, end - max(piece.offset, reached))
        reached = max(reached, end)
    return total


def widest(blocks: Sequence[Block], joined: Joined) -> int:
    """Bytes from the first to the last of the largest set of joined blocks."""
    return max((body.size for body in _bodies(blocks, joined)), default=0)


def live_peak(blocks: Sequence[Block], joined: Joined | None = None) -> int:
    """The lower bound of any placement: the largest sum of (aligned) sizes that live at one step."""
    steps = max((block.last for block in blocks), default=-1) + 1
    return max(live_bytes(blocks, joined, steps=steps), default=0)


def allocate(blocks: Sequence[Block], joined: Joined | None = None, *, goal: int | None = None) -> _Placement:
    """Addresses by name and the peak. `joined` gives the root of a block and its offset from it.

    Greedy orders first, each first-fit. Where none reaches `goal` (default: the lower bound), a climb swaps blocks
    in the order of placement that stand in the way of the highest one. Deterministic.
    """
    bodies = _bodies(blocks, joined or {})
    enough = max(live_peak(blocks, joined), goal or 0)
    best: tuple[list[_Body], _Placement] | None = None
    for key in _ORDERS:
        order = sorted(bodies, key=key)
        placed = _first_fit(order)
        if placed is not None and (best is None or placed[1] < best[1][1]):
            best = order, placed
        if best is not None and best[1][1] <= enough:
            break
    assert best is not None  # there is at least one order
    return best[1] if best[1][1] <= enough else _climb(*best, enough)


_ORDERS: tuple[Callable[[_Body], tuple[int | str, ...]], ...] = (
    lambda b: (-b.size, b.first, b.name),
    lambda b: (b.first, -b.size, b.name),
    lambda b: (-(b.last - b.first + 1), -b.size, b.first, b.name),
    lambda b: (-b.size * (b.last - b.first + 1), b.first, b.name),
)


def _climb(order: list[_Body], found: _Placement, enough: int) -> _Placement:
    """Swaps in the placement order, kept when the peak does not grow (as in Vela's hill climb, seeded)."""
    draw = random.Random(len(order))
    best, idle = found, 0
    for _ in range(_SWAPS):
        if best[1] <= enough or idle >= _PATIENCE:
            break
        changed = list(order)
        high = _highest(order, best)
        other = draw.choice(_neighbours(order, order[high]) or [high])
        if draw.random() < 0.3 or other == high:
            other = draw.randrange(len(order))
        changed[high], changed[other] = changed[other], changed[high]
        placed = _first_fit(changed, best[1])
        idle = 0 if placed is not None and placed[1] < best[1] else idle + 1
        if placed is not None:
            order, best = changed, placed
    return best


def _highest(order: list[_Body], placed: _Placement) -> int:
    return max(range(len(order)), key=lambda i: placed[0][order[i].pieces[0].name] + order[i].size)


def _neighbours(order: list[_Body], body: _Body) -> list[int]:
    """Places of the bodies that live at the same time as `body` and were placed before it."""
    before = order[: order.index(body)]
    return [place for place, other in enumerate(before) if other.first <= body.last and body.first <= other.last]


def _bodies(blocks: Iterable[Block], joined: Joined) -> list[_Body]:
    members: dict[str, list[tuple[Block, int]]] = {}
    for block in blocks:
        root, offset = joined.get(block.name, (block.name, 0))
        members.setdefault(root, []).append((block, offset))
    return [_body(root, parts) for root, parts in members.items()]


def _body(root: str, parts: list[tuple[Block, int]]) -> _Body:
    low = min(offset for _, offset in parts)
    pieces = tuple(_Piece(b.name, o - low, _aligned(b.size_bytes), b.first, b.last) for b, o in parts)
    size = max(piece.offset + piece.size for piece in pieces)
    return _Body(root, pieces, size, min(piece.first for piece in pieces), max(piece.last for piece in pieces))


def _first_fit(order: Sequence[_Body], limit: int | None = None) -> _Placement | None:
    """Every body at the lowest address that is free; None as soon as one ends beyond `limit`."""
    done: list[tuple[int, int, int, int]] = []  # address, end, first, last
    addresses: dict[str, int] = {}
    peak = 0
    for body in order:
        base = _lowest(body, done)
        peak = max(peak, base + body.size)
        if limit is not None and peak > limit:
            return None
        for piece in body.pieces:
            start = base + piece.offset
            addresses[piece.name] = start
            done.append((start, start + piece.size, piece.first, piece.last))
    return addresses, peak


def _lowest(body: _Body, done: Sequence[tuple[int, int, int, int]]) -> int:
    """The lowest address at which no piece meets anything that lives with it."""
    blocked: list[tuple[int, int]] = []  # open intervals of addresses that are not possible
    for p in body.pieces:
        first, last, before, offset = p.first, p.last, p.offset + p.size, p.offset
        blocked += [(s - before, e - offset) for s, e, f, n in done if f <= last and first <= n]
    blocked.sort()
    base = 0
    for start, end in blocked:
        if base <= start:
            break
        if end > base:
            base = end
    return base


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
