"""Placement never overlaps live blocks and never beats the lower bound."""

import random

from hypothesis import given
from hypothesis import strategies as st

from lanefit.export.allocate import ALIGNMENT_BYTES, Block, allocate, live_bytes, live_peak

_blocks = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=25).map(
    lambda rows: [Block(f"b{i}", size, first, first + span) for i, (size, first, span) in enumerate(rows)]
)


@given(_blocks)
def test_no_two_live_blocks_overlap(blocks: list[Block]) -> None:
    placed, _ = allocate(blocks)
    for i, a in enumerate(blocks):
        for b in blocks[:i]:
            together = a.first <= b.last and b.first <= a.last
            apart = placed[a.name] + a.size_bytes <= placed[b.name] or placed[b.name] + b.size_bytes <= placed[a.name]
            assert apart or not together


@given(_blocks)
def test_the_peak_lies_between_the_lower_bound_and_the_sum(blocks: list[Block]) -> None:
    placed, peak = allocate(blocks)
    assert live_peak(blocks) <= peak <= sum(b.size_bytes + ALIGNMENT_BYTES for b in blocks)
    assert all(placed[b.name] + b.size_bytes <= peak for b in blocks)


def test_blocks_that_never_meet_share_their_memory() -> None:
    placed, peak = allocate([Block("a", 64, 0, 1), Block("b", 64, 2, 3)])
    assert placed == {"a": 0, "b": 0}
    assert peak == 64


@given(_blocks, st.randoms(use_true_random=False))
def test_joined_blocks_keep_their_distance_and_meet_nobody_else(blocks: list[Block], draw: random.Random) -> None:
    joined = {b.name: (blocks[0].name, 16 * draw.randint(-99, 99)) for b in blocks[1:] if draw.random() < 0.3}
    placed, peak = allocate(blocks, joined)
    for name, (root, offset) in joined.items():
        assert placed[name] == placed[root] + offset
    for i, a in enumerate(blocks):
        for b in blocks[:i]:
            family = {a.name, b.name} <= {blocks[0].name, *joined}
            together = a.first <= b.last and b.first <= a.last
            apart = placed[a.name] + a.size_bytes <= placed[b.name] or placed[b.name] + b.size_bytes <= placed[a.name]
            assert apart or family or not together
    assert live_peak(blocks, joined) <= peak
    assert min(placed.values()) >= 0


def test_blocks_that_overwrite_each_other_count_once() -> None:
    blocks = [Block("in", 160, 0, 1), Block("out", 160, 1, 2)]
    assert live_bytes(blocks, {"out": ("in", -32)}, steps=3) == [160, 192, 160]


def test_placement_reaches_the_lower_bound_where_greedy_orders_do_not() -> None:
    """Most of these cannot be placed at the bound by any order that looks at sizes and lifetimes alone."""
    reached = 0
    for seed in range(40):
        draw = random.Random(seed)
        starts = [draw.randint(0, 9) for _ in range(14)]
        blocks = [Block(f"b{i}", 16 * draw.randint(1, 40), s, s + draw.randint(0, 4)) for i, s in enumerate(starts)]
        reached += allocate(blocks)[1] == live_peak(blocks)
    assert reached >= 36


def test_the_same_blocks_get_the_same_addresses() -> None:
    blocks = [Block(f"b{i}", 16 * (1 + i * 7 % 11), i % 6, i % 6 + i % 4) for i in range(20)]
    assert allocate(blocks) == allocate(blocks)
