"""Memories that store equal bytes once behave as one plain array per run."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ProgramFault
from lanefit.targets.memory import Box, Memory

SIZE = 40
counts = st.tuples(st.integers(1, 3), st.integers(1, 4))
strides = st.tuples(st.integers(-8, 8), st.integers(-3, 3))
boxes = st.builds(Box, st.integers(0, 20), counts, strides)


def addresses(box: Box) -> list[int]:
    return [
        box.address + sum(i * s for i, s in zip(index, box.strides, strict=True))
        for index in product(*(range(n) for n in box.counts))
    ]


@given(boxes)
def test_bounds_and_distinctness_agree_with_the_list_of_addresses(box: Box) -> None:
    touched = addresses(box)
    assert (box.low, box.high) == (min(touched), max(touched) + 1)
    if box.has_distinct_bytes():
        assert len(set(touched)) == len(touched)


def test_interleaved_rows_are_distinct() -> None:
    assert Box(0, (2, 3), (1, 2)).has_distinct_bytes()
    assert not Box(0, (3, 3), (1, 2)).has_distinct_bytes()


@given(st.integers(1, 3), st.lists(st.tuples(boxes, st.sampled_from(["shared", "own", "read"])), max_size=12))
def test_a_memory_equals_one_array_per_run(runs: int, accesses: list[tuple[Box, str]]) -> None:
    rng = np.random.default_rng(0)
    initial = rng.integers(-128, 128, SIZE).astype(np.int8)
    memory = Memory("SRAM", runs, SIZE, initial.tobytes())
    plain = np.tile(initial, (runs, 1))
    for box, kind in accesses:
        if not (box.low >= 0 and box.high <= SIZE and box.has_distinct_bytes()):
            continue
        touched = np.array(addresses(box)).reshape(box.counts)
        if kind != "read":
            values = rng.integers(-128, 128, (1 if kind == "shared" else runs, *box.counts)).astype(np.int8)
            memory.write(box, values)
            plain[:, touched] = values
        np.testing.assert_array_equal(np.broadcast_to(memory.read(box), (runs, *box.counts)), plain[:, touched])
    whole = memory.read(Box(0, (SIZE,), (1,)))
    np.testing.assert_array_equal(np.broadcast_to(whole, plain.shape), plain)


def test_what_is_equal_in_all_runs_is_returned_once() -> None:
    memory = Memory("SRAM", 5, 8)
    memory.write(Box(0, (4,), (1,)), np.ones((1, 4), np.int8))
    memory.write(Box(4, (4,), (1,)), np.ones((5, 4), np.int8))
    assert memory.read(Box(0, (4,), (1,))).shape == (1, 4)
    assert memory.read(Box(4, (4,), (1,))).shape == (5, 4)


@pytest.mark.parametrize("box", [Box(38, (3,), (1,)), Box(1, (3,), (-1,)), Box(-1, (1,), (1,))])
def test_accesses_outside_are_faults_that_name_the_bytes(box: Box) -> None:
    memory = Memory("SRAM", 1, SIZE)
    message = rf"SRAM bytes {box.low}\.\.{box.high - 1} lie outside of 0\.\.39"
    with pytest.raises(ProgramFault, match=message):
        memory.read(box)
    with pytest.raises(ProgramFault, match=message):
        memory.write(box, np.zeros((1, *box.counts), np.int8))


class TestOverlap:
    def test_interleaved_boxes_do_not_overlap(self) -> None:
        channels = [Box(start, (3, 4, 8), (64, 16, 1)) for start in (0, 8)]
        assert not channels[0].overlaps(channels[1])
        assert channels[0].overlaps(Box(7, (2, 2, 2), (64, 16, 1)))

    @pytest.mark.parametrize("seed", range(40))
    def test_it_is_decided_byte_by_byte(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        boxes = [
            Box(100 + int(rng.integers(0, 30)), tuple(rng.integers(1, 4, 3)), tuple(rng.integers(-9, 10, 3)))
            for _ in range(2)
        ]
        a, b = ({box.address + int(np.dot(i, box.strides)) for i in np.ndindex(*box.counts)} for box in boxes)
        assert boxes[0].overlaps(boxes[1]) == bool(a & b)
