"""SRAM over time: everything in the plan has its place and time, and no two live things share a byte by accident."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.export.compiler import Compiled, compile_graph
from lanefit.export.occupancy import MAP, Span, covered_bytes, levels, spans, step_times_us
from lanefit.export.random_graphs import random_graph
from lanefit.targets.spec import load_spec


@pytest.fixture(scope="module", params=range(4))
def compiled(request: pytest.FixtureRequest) -> Compiled:
    return compile_graph(random_graph(np.random.default_rng(request.param)), load_spec("ne-64"))


def test_steps_share_out_the_whole_time(compiled: Compiled) -> None:
    times = step_times_us(compiled)
    assert len(times) == len(compiled.plan.steps) + 1
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0, pytest.approx(compiled.latency_us))


def test_every_block_of_the_plan_is_shown_inside_of_the_peak_and_the_time(compiled: Compiled) -> None:
    found = spans(compiled, start_us=100)
    assert {span.name for span in found} == {block.name for block in compiled.plan.blocks}
    for span in found:
        assert 0 <= span.address <= span.address + span.size_bytes <= compiled.sram_bytes
        assert 100 <= span.start_us <= span.end_us <= 100 + compiled.latency_us * 1.000001
    labels = {step.group.label for step in compiled.plan.steps}
    assert {span.label for span in found} <= labels


def test_buffers_that_live_together_do_not_share_bytes(compiled: Compiled) -> None:
    """Maps may, where an output overwrites its input; the buffers of kernels never do."""
    for a, b in combinations(spans(compiled), 2):
        if not (a.kind == b.kind == MAP):
            assert not a.overlaps(b), (a, b)


def test_occupied_bytes_never_exceed_the_peak_and_end_at_none(compiled: Compiled) -> None:
    found = levels(spans(compiled))
    assert all(a.start_us < b.start_us for a, b in pairwise(found))
    assert 0 < max(level.occupied_bytes for level in found) <= compiled.sram_bytes
    assert found[-1].occupied_bytes == 0


def test_bytes_that_two_maps_share_count_once() -> None:
    first = Span("a", MAP, "one", 0, 100, 0.0, 2.0)
    second = Span("b", MAP, "two", 60, 100, 1.0, 3.0)
    weights = Span("1/weights", "weights", "two", 200, 50, 0.0, 2.0)
    found = levels([first, second, weights])
    assert [(level.start_us, level.occupied_bytes) for level in found] == [(0, 150), (1, 210), (2, 100), (3, 0)]
    assert found[1].bytes_by_kind == {MAP: 160, "weights": 50}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=8))
def test_covered_bytes_are_those_of_the_union(ranges: list[tuple[int, int]]) -> None:
    both = [(start, start + size) for start, size in ranges]
    assert covered_bytes(both) == len({byte for start, end in both for byte in range(start, end)})
