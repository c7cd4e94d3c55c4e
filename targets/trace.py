"""Timelines for chrome://tracing and Perfetto (Trace Event Format, complete events, microseconds)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..common.errors import InputError
from ..common.units import cycles_to_us
from .isa import Unit
from .timing import Event, Timing


def chrome_trace(timing: Timing, *, name: str = "engine") -> dict[str, Any]:
    """The trace as a JSON value: one process, one thread per unit. `timing` must come from `simulate(trace=True)`."""
    if timing.cycles and not timing.events:
        raise InputError("this timing has no events", hint="time the program with simulate(program, trace=True)")
    events = [_metadata("process_name", 0, name), *(_metadata("thread_name", unit, unit.name) for unit in Unit)]
    events += [_complete(event, timing.clock_mhz) for event in timing.events]
    return {"displayTimeUnit": "ns", "traceEvents": events}


def _metadata(kind: str, unit: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": 0, "tid": int(unit), "args": {"name": name}}


def _complete(event: Event, clock_mhz: float) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": event.label or event.opcode.name,
        "cat": event.opcode.name,
        "pid": 0,
        "tid": int(event.unit),
        "ts": cycles_to_us(event.start, clock_mhz),
        "dur": cycles_to_us(event.end - event.start, clock_mhz),
        "args": {"instruction": event.index, "opcode": event.opcode.name, "cycles": event.end - event.start},
    }


def counter_events(name: str, levels: Iterable[tuple[float, Mapping[str, int]]]) -> list[dict[str, Any]]:
    """A counter track `name`: (microseconds, values by series) in the order of time; a series that is absent is 0."""
    points = list(levels)
    series = sorted({key for _, values in points for key in values})
    return [
        {"ph": "C", "name": name, "pid": 0, "ts": time_us, "args": {key: values.get(key, 0) for key in series}}
        for time_us, values in points
    ]
