"""SRAM addresses for buffers with lifetimes: no two that live at the same time overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Block:
    """`size_bytes` that must exist from step `first` to step `last`, both included."""

    name: str
    size_bytes: int
    first: int
    last: int


def live_peak(blocks: Sequence[Block]) -> int:
    """The lower bound of any placement: the largest sum of (aligned) sizes that live at one step."""
    events: dict[int, int] = {}
    for block in blocks:
        events[block.first] = events.get(block.first, 0) + _aligned(block.size_bytes)
        events[block.last + 1] = events.get(block.last + 1, 0) - _aligned(block.size_bytes)
    peak = total = 0
    for step in sorted(events):
        total += events[step]
        peak = max(peak, total)
    return peak


def allocate(blocks: Sequence[Block]) -> tuple[dict[str, int], int]:
    """Addresses by name and the peak. Best of several greedy orders, each first-fit; deterministic."""
    bound = live_peak(blocks)
    best: tuple[dict[str, int], int] | None = None
    for key in (
        lambda b: (-b.size_bytes, b.first, b.name),
        lambda b: (b.first, -b.size_bytes, b.name),
        lambda b: (-(b.last - b.first + 1), -b.size_bytes, b.first, b.name),
        lambda b: (-b.size_bytes * (b.last - b.first + 1), b.first, b.name),
    ):
        placed, peak = _first_fit(sorted(blocks, key=key))
        if best is None or peak < best[1]:
            best = placed, peak
        if peak == bound:
            break
    assert best is not None
    return best


def _first_fit(blocks: Sequence[Block]) -> tuple[dict[str, int], int]:
    done: list[tuple[int, int, Block]] = []
    peak = 0
    for block in blocks:
        size = _aligned(block.size_bytes)
        busy = sorted((a, e) for a, e, other in done if other.first <= block.last and block.first <= other.last)
        address = 0
        for start, end in busy:
            if address + size <= start:
                break
            address = max(address, end)
        done.append((address, address + size, block))
        peak = max(peak, address + size)
    return {block.name: address for address, _, block in done}, peak


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
