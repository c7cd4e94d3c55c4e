"""SRAM addresses for buffers with lifetimes: no two that live at the same time overlap.

Blocks may be *joined*: they keep their distance to each other, and share bytes where the plan wants that (an output
that overwrites its input). What is joined moves as one body, whose extent changes from step to step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

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


@dataclass(slots=True)
class _Piece:
    """A block within its body: `offset` from the body's address."""

    name: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(slots=True)
class _Body:
    """Pieces at fixed distances."""

    name: str
    pieces: tuple[_Piece, ...]
    size: int
    first: int
    last: int


Joined = Mapping[str, tuple[str, int]]
_Placement = tuple[dict[str, int], int]
_Bases = tuple[list[int], int]  # the address of each body, and the peak


def live_bytes(blocks: Sequence[Block], joined: Joined | None = None, *, steps: int) -> list[int]:
    """Bytes that the blocks take at each step at least; what joined ones share counts once."""
    return _live(_bodies(blocks, joined or {}), steps)


def _live(bodies: Iterable[_Body], steps: int) -> list[int]:
    live = [0] * steps
    for body in bodies:
        pieces = body.pieces
        for step in range(body.first, body.last + 1):
            alive = pieces if len(pieces) == 1 else [piece for piece in pieces if piece.first <= step <= piece.last]
            live[step] += _covered(alive)
    return live


def _covered(pieces: Sequence[_Piece]) -> int:
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
    return _peak(_bodies(blocks, joined or {}))


def _peak(bodies: Sequence[_Body]) -> int:
    steps = max((body.last for body in bodies), default=-1) + 1
    return max(_live(bodies, steps), default=0)


def allocate(blocks: Sequence[Block], joined: Joined | None = None, *, goal: int | None = None) -> _Placement:
    """Addresses by name and the peak. `joined` gives the root of a block and its offset from it.

    Greedy orders first, each first-fit. Where none reaches `goal` (default: the lower bound), a climb swaps blocks
    in the order of placement that stand in the way of the highest one. Deterministic.
    """
    bodies = _bodies(blocks, joined or {})
    enough = max(_peak(bodies), goal or 0)
    field = _Field(bodies)
    best: tuple[list[int], _Bases] | None = None
    for key in _ORDERS:
        order = sorted(range(len(bodies)), key=lambda number: key(bodies[number]))
        placed = field.first_fit(order)
        if placed is not None and (best is None or placed[1] < best[1][1]):
            best = order, placed
        if best is not None and best[1][1] <= enough:
            break
    assert best is not None  # there is at least one order
    bases, peak = best[1] if best[1][1] <= enough else _climb(field, *best, enough)
    pieces = ((piece, base) for body, base in zip(bodies, bases, strict=True) for piece in body.pieces)
    return {piece.name: base + piece.offset for piece, base in pieces}, peak


_ORDERS: tuple[Callable[[_Body], tuple[int | str, ...]], ...] = (
    lambda b: (-b.size, b.first, b.name),
    lambda b: (b.first, -b.size, b.name),
    lambda b: (-(b.last - b.first + 1), -b.size, b.first, b.name),
    lambda b: (-b.size * (b.last - b.first + 1), b.first, b.name),
)


class _Field:
    """Bodies by number, and for each the addresses at which it would meet another one that lives with it."""

    def __init__(self, bodies: Sequence[_Body]) -> None:
        self.bodies = bodies
        self.sizes = [body.size for body in bodies]
        self.meets: list[list[tuple[int, int, int]]] = [[] for _ in bodies]
        by_start = sorted(range(len(bodies)), key=lambda number: bodies[number].first)
        alive: list[int] = []
        for number in by_start:
            body = bodies[number]
            alive = [other for other in alive if bodies[other].last >= body.first]
            for other in alive:
                self._meet(number, other)
                self._meet(other, number)
            alive.append(number)

    def _meet(self, mine: int, other: int) -> None:
        """Between the other's address + low and + high, both excluded, a piece of it would be met."""
        body, met = self.bodies[mine], self.bodies[other]
        if len(body.pieces) == len(met.pieces) == 1:
            self.meets[mine].append((other, -body.size, met.size))
            return
        self.meets[mine] += [
            (other, theirs.offset - ours.offset - ours.size, theirs.offset + theirs.size - ours.offset)
            for theirs in met.pieces
            for ours in body.pieces
            if theirs.first <= ours.last and ours.first <= theirs.last
        ]

    def first_fit(self, order: Sequence[int], limit: int | None = None) -> _Bases | None:
        """Every body at the lowest address that is free; None as soon as one ends beyond `limit`."""
        bases, peak, sizes, meets = [-1] * len(order), 0, self.sizes, self.meets
        most = inf if limit is None else limit
        for number in order:
            base = 0
            blocked = [(b + low, b + high) for n, low, high in meets[number] if (b := bases[n]) >= 0]
            blocked.sort()
            for start, end in blocked:
                if base <= start:
                    break
                if end > base:
                    base = end
            bases[number] = base
            if base + sizes[number] > peak:
                peak = base + sizes[number]
                if peak > most:
                    return None
        return bases, peak


def _climb(field: _Field, order: list[int], found: _Bases, enough: int) -> _Bases:
    """Swaps in the placement order, kept when the peak does not grow (as in Vela's hill climb, seeded)."""
    draw = random.Random(len(order))
    best, idle = found, 0
    for _ in range(_SWAPS):
        if best[1] <= enough or idle >= _PATIENCE:
            break
        changed = list(order)
        high = max(range(len(order)), key=lambda i: best[0][order[i]] + field.sizes[order[i]])
        other = draw.choice(_neighbours(field.bodies, order, high) or [high])
        if draw.random() < 0.3 or other == high:
            other = draw.randrange(len(order))
        changed[high], changed[other] = changed[other], changed[high]
        placed = field.first_fit(changed, best[1])
        idle = 0 if placed is not None and placed[1] < best[1] else idle + 1
        if placed is not None:
            order, best = changed, placed
    return best


def _neighbours(bodies: Sequence[_Body], order: list[int], high: int) -> list[int]:
    """Places of the bodies that live at the same time as the one at place `high` and were placed before it."""
    body = bodies[order[high]]
    before = enumerate(bodies[number] for number in order[:high])
    return [place for place, other in before if other.first <= body.last and body.first <= other.last]


def _bodies(blocks: Iterable[Block], joined: Joined) -> list[_Body]:
    members: dict[str, list[tuple[Block, int]]] = {}
    for block in blocks:
        root, offset = joined.get(block.name, (block.name, 0))
        members.setdefault(root, []).append((block, offset))
    return [_body(root, parts) for root, parts in members.items()]


def _body(root: str, parts: list[tuple[Block, int]]) -> _Body:
    if len(parts) == 1:
        ((block, _),) = parts
        size = _aligned(block.size_bytes)
        piece = _Piece(block.name, 0, size, block.first, block.last)
        return _Body(root, (piece,), size, block.first, block.last)
    low = min(offset for _, offset in parts)
    pieces = tuple(_Piece(b.name, o - low, _aligned(b.size_bytes), b.first, b.last) for b, o in parts)
    size = max(piece.offset + piece.size for piece in pieces)
    return _Body(root, pieces, size, min(piece.first for piece in pieces), max(piece.last for piece in pieces))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
