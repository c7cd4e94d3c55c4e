"""Boxes and descriptors reproduce the index table of the decomposition."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lanefit.kernels.cuboid_geometry import Cuboids
from lanefit.kernels.cuboid_tiles import Box, axis_runs, box_mask, boxes

_AXES = st.tuples(st.integers(1, 13), st.integers(1, 6), st.integers(0, 5), st.sampled_from("ld")).map(
    lambda a: (a[0], a[1], a[2] % a[1], a[3])
)


@st.composite
def cuboid_cases(draw: st.DrawFn) -> Cuboids:
    sizes, blocks, shifts, strategies = zip(*(draw(_AXES) for _ in range(3)), strict=True)
    return Cuboids.of(sizes, blocks, shifts, strategies, draw(st.sampled_from(["zeros", "ignore", "nearest"])))


@given(cuboid_cases())
def test_runs_name_where_every_token_of_an_axis_comes_from_and_returns_to(cuboids: Cuboids) -> None:
    for axis in cuboids.axes:
        found = np.full((2, axis.blocks, axis.block), -1)
        for run in axis_runs(axis):
            for side, pieces in enumerate((run.pieces, run.returns)):
                for n, piece in product(range(run.count), pieces):
                    for i in range(piece.count):
                        found[side, run.first + n, piece.inner + i] = piece.source + n * run.step + i * piece.stride
        np.testing.assert_array_equal(found, np.stack([axis.loads, axis.stores]))


@given(cuboid_cases(), st.integers(1, 12))
def test_tiles_cover_every_cuboid_once_and_share_its_mask(cuboids: Cuboids, limit: int) -> None:
    seen: list[int] = []
    for box in boxes(cuboids, limit):
        mask = box_mask(cuboids, box)
        assert box.cuboids_per_tile <= limit
        for ids in box.cuboid_ids(cuboids.blocks):
            assert len(ids) == box.cuboids_per_tile
            assert all(np.array_equal(cuboids.mask[n], mask) for n in ids)
            seen.extend(ids)
    assert sorted(seen) == list(range(cuboids.count))


def test_an_axial_pattern_is_one_box() -> None:
    for cuboid in ((13, 1, 1), (1, 32, 1), (1, 1, 32)):
        found = boxes(Cuboids.of((13, 32, 32), cuboid, (0, 0, 0), ("l", "l", "l"), "zeros"), 4)
        assert [type(box) for box in found] == [Box]
        assert found[0].cuboids_per_tile == 4


def test_a_shifted_axis_takes_its_last_block_from_both_ends() -> None:
    shifted = Cuboids.of((12, 1, 1), (4, 1, 1), (2, 0, 0), ("l", "l", "l"), "zeros").axes[0]
    inner, last = axis_runs(shifted)
    assert (inner.count, inner.step, len(inner.pieces)) == (2, 4, 1)
    assert [(piece.source, piece.count) for piece in last.pieces] == [(10, 2), (0, 2)]
