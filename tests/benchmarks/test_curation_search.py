"""How the benchmark of curation compares searches: areas, ratios and counts whose right values are known."""

import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "search"))
from curation_search import Yardstick, compare, hypervolume, summary

REFERENCE = (10.0, 0.0)
POINTS = st.lists(st.tuples(st.floats(0.1, 20), st.floats(-5, 5)), max_size=12)


def test_the_hypervolume_is_the_area_of_the_staircase() -> None:
    assert hypervolume([(5.0, 1.0), (8.0, 2.0)], REFERENCE) == pytest.approx(5 * 1 + 2 * 1)
    assert hypervolume([(11.0, 9.0), (5.0, -1.0)], REFERENCE) == 0.0


@given(POINTS, st.tuples(st.floats(0.1, 20), st.floats(-5, 5)))
def test_another_point_never_makes_it_smaller_and_a_dominated_one_leaves_it(
    points: list[tuple[float, float]], more: tuple[float, float]
) -> None:
    before = hypervolume(points, REFERENCE)
    after = hypervolume([*points, more], REFERENCE)
    assert after >= before - 1e-9
    if any(x <= more[0] and y >= more[1] for x, y in points):
        assert after == pytest.approx(before)


def test_a_search_that_is_ahead_reaches_the_other_ones_result_early() -> None:
    slow = [(9.0, 1.0)] * 59 + [(5.0, 2.0)]
    fast = [(9.0, 1.0), (4.0, 2.0), *[(9.0, 1.0)] * 58]
    found = compare(slow, fast, REFERENCE, float)
    assert found["ratio"] == {50: pytest.approx(12.0)}
    assert found["reached_after"] == 2
    assert compare(fast, slow, REFERENCE, float)["reached_after"] is None
    assert compare([(11.0, 1.0)], fast[:1], REFERENCE, math.log)["ratio"] == {1: None}


def test_the_summary_counts_seeds_and_calls_what_is_never_reached_none() -> None:
    seeds = [{"latency": {"ratio": {50: r}, "reached_after": n}} for r, n in ((1.5, 40), (0.5, None), (1.0, 70))]
    found = summary(seeds, "latency")
    assert found["at_least_as_good"] == {50: pytest.approx(2 / 3)}
    assert (found["median_reached_after"], found["reached_within_60"]) == (70, pytest.approx(1 / 3))
    assert summary(seeds[1:2], "latency")["median_reached_after"] is None


def test_a_degenerate_network_scores_ten_deviations_below_the_mean() -> None:
    yardstick = Yardstick({"naswot": (1.0, 2.0), "synflow": (0.0, 1.0)})
    assert yardstick.score({"naswot": 3.0, "synflow": 1.0}) == 1.0
    assert yardstick.score({"naswot": -math.inf, "synflow": -math.inf}) == -10.0
