"""Placement never overlaps live blocks and never beats the lower bound."""

from hypothesis import given
from hypothesis import strategies as st

from lanefit.export.allocate import ALIGNMENT_BYTES, Block, allocate, live_peak

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
