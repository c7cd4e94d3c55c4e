from __future__ import annotations

import os
import time
from dataclasses import dataclass

import pytest
from estimator.live.synthetic import Device, SyntheticSession

from lanefit.estimator.live.ort_runner import OrtRunner
from lanefit.estimator.live.protocol import Measured, Protocol, measure, settled
from lanefit.estimator.live.reference import gauge
from lanefit.estimator.live.sessions import Session
from lanefit.estimator.live.steadiness import Gauge

LATENCIES = {"a": 100.0, "b": 220.0, "c": 50.0}
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
WATCHED = Protocol(visit_us=0, min_visits=6, max_visits=24, steady=0.08, patience_ms=20.0)


@dataclass
class Sensitive(SyntheticSession):
    """Suffers more than the reference where the device is slow."""

    power: float = 3.0

    def run(self) -> float:
        more = self.device.slowdown(self.device.now) ** (self.power - 1)
        return super().run() * more


def away_now_and_then(now: float) -> float:
    return 1.4 if now % 40_000 < 25_000 else 1.0


def idle(device: Device) -> Gauge:
    """A reference whose rests pass on the device's own clock."""

    def sleep(seconds: float) -> None:
        device.now += 1e6 * seconds

    return Gauge(device.session("reference", 80.0), sleep, lambda: device.now / 1e6)


def run(device: Device, protocol: Protocol) -> dict[str, Measured]:
    sessions = {name: Sensitive(device, name, latency) for name, latency in LATENCIES.items()}
    return measure(sessions, protocol, reference=idle(device))


def test_visits_in_another_state_do_not_count() -> None:
    found = run(Device(away_now_and_then), WATCHED)
    assert {name: m.latency_us for name, m in found.items()} == pytest.approx(LATENCIES)
    assert all(m.certain for m in found.values())


def test_without_watching_the_same_device_is_measured_wrongly() -> None:
    found = run(Device(away_now_and_then), Protocol(visit_us=0, min_visits=6, max_visits=24))
    assert any(abs(m.latency_us / LATENCIES[name] - 1) > 0.2 for name, m in found.items())


def test_visits_that_do_not_count_are_kept_as_they_were() -> None:
    found = run(Device(lambda now: 1.4 if now % 9_000 < 4_000 else 1.0), WATCHED)
    left_out = [m for m in found.values() if len(m.samples_us) < len(m.raw_us)]
    assert left_out
    assert all(len(m.raw_us) == len(m.slowdown) for m in found.values())
    assert max(max(m.slowdown) for m in left_out) > 1.08


def test_a_device_that_never_comes_back_is_measured_in_bounded_time_and_not_certain() -> None:
    device = Device(lambda now: 1.0 if now < 3_000 else 1.4)
    found = run(device, WATCHED)
    rested_us = device.now - sum(sum(map(sum, m.raw_us)) for m in found.values())
    assert not any(m.certain for m in found.values())
    assert all(len(m.samples_us) == len(m.raw_us) == WATCHED.max_visits for m in found.values())
    assert rested_us < 1e3 * (WATCHED.patience_ms + 20) * len(LATENCIES) * WATCHED.max_visits + 400_000


def test_the_state_that_counts_is_remembered_between_measurements() -> None:
    device = Device(lambda now: 1.4 if now > 1e6 else 1.0)
    reference = idle(device)
    first = measure({"a": Sensitive(device, "a", 100.0)}, WATCHED, reference=reference)["a"]
    device.now = 2e6
    later = measure({"a": Sensitive(device, "a", 100.0)}, WATCHED, reference=reference)["a"]
    assert first.certain
    assert not later.certain
    assert min(later.slowdown) == pytest.approx(1.4)


def test_a_gauge_pauses_after_each_reading_and_keeps_the_best() -> None:
    device = Device(lambda now: 2.0 if now < 1_500 else 1.0)
    session = device.session("reference", 80.0)
    found = Gauge(session, lambda seconds: None)
    readings = [found.read() for _ in range(4)]
    assert found.best_us == min(readings) == pytest.approx(80.0)
    assert readings[0] > 100.0
    assert session.paused == 4


def test_the_state_of_a_host_is_watched_and_several_threads_get_time_to_spread_out() -> None:
    for threads in (1, 2):
        assert settled(Protocol(), threads).steady > 0 < settled(Protocol(), threads).patience_ms
    assert settled(Protocol(), 1).settle_ms == 0 < settled(Protocol(), 2).settle_ms


def test_a_steady_reading_serves_the_visit_after_it_as_well() -> None:
    device = Device(lambda now: 1.0)
    reference = idle(device)
    count = 0
    read = reference.read

    def counted() -> float:
        nonlocal count
        count += 1
        return read()

    reference.read = counted
    reference.learn()
    count = 0
    found = measure({"a": Sensitive(device, "a", 100.0)}, WATCHED, reference=reference)["a"]
    assert count == len(found.raw_us) + 1


@pytest.mark.skipif(PROCESSORS < 2, reason="two processors that threads can be pinned to are needed")
def test_each_thread_of_the_runtime_has_a_processor_of_its_own() -> None:
    runner = OrtRunner(2)
    before = set(os.listdir("/proc/self/task"))
    with runner.ready():
        own = os.sched_getaffinity(0)
        reference = gauge(runner)
        places = (_places_since(before, reference.session) for _ in range(200))
        assert any(set(runner.processors[1:]) in found for found in places)
        reference.close()
    assert own == set(runner.processors[:1])


def _places_since(before: set[str], session: Session) -> list[set[int]]:
    """Processors of the threads that began since; a new one is not yet in its place when the system is busy."""
    session.run()
    time.sleep(0.01)
    return [os.sched_getaffinity(int(task)) for task in set(os.listdir("/proc/self/task")) - before]
