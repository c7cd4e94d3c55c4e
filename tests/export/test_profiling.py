"""A profile accounts for every cycle of every region."""

from __future__ import annotations

import pytest
from export_examples import Mixed, int8_model

from lanefit.common.budget import Budget
from lanefit.export.pipeline import build
from lanefit.export.profiling import Profile
from lanefit.targets.spec import load_spec


@pytest.fixture(scope="module")
def split() -> Profile:
    """Two regions around operators of the CPU."""
    built = build(int8_model(Mixed), load_spec("ne-64"))
    return Profile(built.spec, built.compiled, built.placements)


def test_rows_of_all_regions_add_up(split: Profile) -> None:
    assert len(split.compiled) == 2
    rows = list(split.rows())
    assert {row.region for row in rows} == {0, 1}
    assert sum(row.added_cycles for row in rows) == pytest.approx(split.cycles)
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_totals_are_sums_and_the_sram_peak(split: Profile) -> None:
    totals = split.totals()
    assert totals["cycles"] == sum(item.timing.cycles for item in split.compiled)
    assert totals["sram_bytes"] == max(item.sram_bytes for item in split.compiled)
    assert totals["cpu_operators"] == len(split.refused) >= 1
    assert totals["lower_bound_cycles"] <= totals["cycles"]


def test_the_slowest_come_first(split: Profile) -> None:
    added = [row.added_cycles for row, _ in split.worst(3)]
    assert added == sorted(added, reverse=True)
    assert len(added) == 3


def test_regions_follow_each_other_in_the_timeline(split: Profile) -> None:
    events = [event for event in split.timeline()["traceEvents"] if "ts" in event]
    first_us = split.compiled[0].latency_us
    assert min(event["ts"] for event in events) < first_us
    assert any(event["ts"] >= first_us for event in events)
    assert max(event["ts"] + event.get("dur", 0) for event in events) <= split.latency_us * 1.001


def test_the_timeline_counts_sram_in_bytes_from_its_begin_to_its_end(split: Profile) -> None:
    events = [event for event in split.timeline()["traceEvents"] if event["ph"] == "C"]
    assert {event["name"] for event in events} == {"SRAM"}
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
    assert len({tuple(event["args"]) for event in events}) == 1, "every series has a value at every time"
    totals = [sum(event["args"].values()) for event in events]
    assert 0 < max(totals) <= split.sram_bytes
    assert (events[0]["ts"], totals[-1]) == (0, 0)


def test_an_engine_without_work_has_an_empty_profile() -> None:
    empty = Profile(load_spec("ne-64"), ())
    assert empty.totals()["utilisation"] == 0
    assert empty.judge(Budget(latency_us=1)).passed
    assert empty.timeline() == {"traceEvents": []}
