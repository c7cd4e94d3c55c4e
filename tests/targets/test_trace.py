"""Timelines show every data instruction on its unit, in microseconds."""

import json
from itertools import pairwise

import pytest
from engine_programs import TILES, double_buffered, program

from lanefit.common.errors import InputError
from lanefit.targets.isa import Unit
from lanefit.targets.timing import simulate
from lanefit.targets.trace import chrome_trace, counter_events


def test_trace_has_one_thread_per_unit_and_times_in_microseconds() -> None:
    timing = simulate(double_buffered(), trace=True)
    trace = json.loads(json.dumps(chrome_trace(timing, name="tiny")))
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = {event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"}
    assert names == {int(unit): unit.name for unit in Unit}
    assert len(events) == 3 * TILES
    assert {event["cat"] for event in events} == {"LOAD", "REQUANTISE", "STORE"}
    assert max(event["ts"] + event["dur"] for event in events) == pytest.approx(timing.latency_us)


def test_compute_instructions_of_one_unit_do_not_overlap() -> None:
    events = [event for event in simulate(double_buffered(), trace=True).events if event.unit is Unit.VECTOR]
    assert len(events) == TILES
    for event, following in pairwise(events):
        assert event.end <= following.start


def test_tracing_does_not_change_the_time() -> None:
    assert simulate(double_buffered(), trace=True).cycles == simulate(double_buffered()).cycles


def test_a_timing_without_events_is_refused() -> None:
    with pytest.raises(InputError, match=r"simulate\(program, trace=True\)"):
        chrome_trace(simulate(double_buffered()))
    assert chrome_trace(simulate(program({})))["traceEvents"]


def test_a_counter_has_a_value_for_every_series_at_every_time() -> None:
    events = counter_events("SRAM", [(0.0, {"maps": 5}), (1.5, {"weights": 7}), (2.0, {})])
    assert [(event["ph"], event["name"], event["ts"]) for event in events] == [
        ("C", "SRAM", t) for t in (0.0, 1.5, 2.0)
    ]
    assert [event["args"] for event in events] == [
        {"maps": 5, "weights": 0}, {"maps": 0, "weights": 7}, {"maps": 0, "weights": 0}
    ]  # fmt: skip
