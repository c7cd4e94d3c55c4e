from __future__ import annotations

import numpy as np
import pytest
from estimator.live.synthetic import Device
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import EstimatorError, InputError
from lanefit.estimator.live.drift import slowdowns
from lanefit.estimator.live.protocol import Measured, Protocol, measure, median_interval
from lanefit.estimator.live.steadiness import Gauge

LATENCIES = {"a": 100.0, "b": 220.0, "c": 50.0, "d": 400.0}
PLAIN = Protocol(visit_us=0, min_visits=8, max_visits=8, reference_every=1)


def run(device: Device, protocol: Protocol, *, reference: bool = True, seed: int = 0) -> dict[str, Measured]:
    sessions = {name: device.session(name, latency) for name, latency in LATENCIES.items()}
    return measure(
        sessions, protocol, reference=Gauge(device.session("reference", 80.0)) if reference else None, seed=seed
    )


def test_a_quiet_device_is_measured_exactly() -> None:
    found = run(Device(), Protocol())
    assert {name: m.latency_us for name, m in found.items()} == pytest.approx(LATENCIES)
    assert all(m.certain for m in found.values())


def test_drift_is_removed_by_the_reference() -> None:
    def becoming_hot(now: float) -> float:
        return 1.0 + now / 50_000

    corrected = run(Device(becoming_hot), PLAIN)
    raw = run(Device(becoming_hot), PLAIN, reference=False)
    ratios = {name: corrected[name].latency_us / LATENCIES[name] for name in LATENCIES}
    spread = max(ratios.values()) / min(ratios.values())
    assert spread < 1.03
    for name in LATENCIES:
        assert np.ptp(corrected[name].samples_us) < 0.35 * np.ptp(raw[name].samples_us)


def test_raw_samples_are_kept_as_they_were() -> None:
    found = run(Device(lambda now: 2.0), PLAIN)["a"]
    assert all(latency == pytest.approx(200.0) for visit in found.raw_us for latency in visit)
    assert len(found.raw_us) == len(found.samples_us) == len(found.slowdown) == 8


def test_visits_are_interleaved_in_another_order_every_round() -> None:
    device = Device()
    protocol = Protocol(visit_us=0, min_visits=6, max_visits=6)
    run(device, protocol, reference=False)
    visits = device.log[:: protocol.warm_up + protocol.runs_per_visit]
    rounds = [tuple(visits[i : i + 4]) for i in range(0, len(visits), 4)]
    assert all(sorted(order) == sorted(LATENCIES) for order in rounds)
    assert len(set(rounds)) > 1


def test_warm_up_runs_are_not_recorded() -> None:
    device = Device(lambda now: 10.0 if now < 5_000 else 1.0)
    sessions = {"a": device.session("a", 100.0)}
    found = measure(sessions, Protocol(warm_up=5, visit_us=0, min_visits=5))["a"]
    assert found.latency_us == pytest.approx(100.0)
    assert max(max(visit) for visit in found.raw_us) == pytest.approx(100.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_item_is_repeated_until_its_interval_is_tight(seed: int) -> None:
    protocol = Protocol(visit_us=0, runs_per_visit=3, min_visits=5, max_visits=400, tolerance=0.02)
    found = run(Device(noise=0.08, seed=seed), protocol, reference=False)
    for measured in found.values():
        low, high = median_interval(measured.samples_us, protocol.confidence)
        assert measured.certain
        assert len(measured.samples_us) > 5
        assert high - measured.latency_us <= 0.02 * measured.latency_us
        assert measured.latency_us - low <= 0.02 * measured.latency_us


def test_the_cap_ends_what_cannot_become_certain_and_says_so() -> None:
    found = run(Device(noise=0.8), Protocol(visit_us=0, max_visits=7), reference=False)
    assert all(len(m.samples_us) == 7 and not m.certain for m in found.values())


def test_the_same_seed_gives_the_same_order() -> None:
    first, second, other = Device(), Device(), Device()
    run(first, PLAIN, seed=3)
    run(second, PLAIN, seed=3)
    run(other, PLAIN, seed=4)
    assert first.log == second.log != other.log


@pytest.mark.parametrize("latency", [0.0, -1.0, float("nan"), float("inf")])
def test_a_clock_that_cannot_be_trusted_is_refused(latency: float) -> None:
    with pytest.raises(EstimatorError, match="clock"):
        measure({"a": Device().session("a", latency)}, Protocol())


@given(st.lists(st.floats(1.0, 1e6), min_size=5, max_size=60), st.floats(0.5, 0.99))
def test_the_interval_contains_the_median(samples: list[float], confidence: float) -> None:
    low, high = median_interval(samples, confidence)
    assert low <= np.median(samples) <= high


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    draws = generator.exponential(size=(2000, 11))
    hits = [low <= np.log(2) <= high for low, high in (median_interval(list(row), 0.9) for row in draws)]
    assert np.mean(hits) >= 0.89


@given(st.floats(1e-3, 1e3), st.integers(1, 40))
def test_a_steady_reference_means_no_drift(latency: float, count: int) -> None:
    np.testing.assert_allclose(slowdowns([latency] * count), 1.0)


@pytest.mark.parametrize(
    "options", [{"min_visits": 0}, {"max_visits": 2}, {"tolerance": 0.0}, {"confidence": 1.0}, {"runs_per_visit": 500}]
)
def test_a_contradictory_protocol_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Protocol(**options)  # pyright: ignore[reportArgumentType]
