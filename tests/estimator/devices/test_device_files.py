"""Files of device estimators: same predictions, same bytes, and nothing but typed errors from damaged ones."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_device import device_us, network_us, random_networks, random_operators

from lanefit.common.errors import EstimatorError
from lanefit.estimator.devices.estimator import DeviceEstimator
from lanefit.estimator.devices.files import load_device, save_device
from lanefit.estimator.devices.fitting import MeasuredNetwork, Measurements, fit_device
from lanefit.estimator.devices.machine import Machine
from lanefit.estimator.tables.kernels import KernelTime


@pytest.fixture(scope="module", params=["operators", "networks"])
def estimator(request: pytest.FixtureRequest) -> DeviceEstimator:
    networks = tuple(MeasuredNetwork(f"n{i}", g, network_us(g)) for i, g in enumerate(random_networks(12, 0)))
    if request.param == "networks":
        return fit_device("board", Measurements((), networks)).estimator
    operators = random_operators(90, 0, depthwise=0)
    pairs = zip(operators, device_us(operators).tolist(), strict=True)
    kernels = tuple(KernelTime(operator, latency, row) for row, (operator, latency) in enumerate(pairs, 2))
    return fit_device("board", Measurements(kernels, networks[:3]), machine=Machine(24), trees=8).estimator


@pytest.fixture(scope="module")
def path(estimator: DeviceEstimator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("device") / "board.device.json"
    save_device(estimator, found)
    return found


def test_a_loaded_estimator_predicts_the_same(estimator: DeviceEstimator, path: Path) -> None:
    loaded = load_device(path)
    for graph in (*random_networks(5, 3), random_networks(12, 0)[0]):
        here, there = estimator.estimate(graph), loaded.estimate(graph)
        for name in ("latency_us", "lower_us", "upper_us"):
            assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-9)
        assert (there.measured_us, there.extrapolated) == (here.measured_us, here.extrapolated)


def test_a_loaded_estimator_is_written_with_the_same_bytes(path: Path, tmp_path: Path) -> None:
    save_device(load_device(path), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_another_schema_version_is_refused_with_a_hint(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(EstimatorError, match="schema version 99, this lanefit reads 1") as caught:
        load_device(other)
    assert "calibrate" in caught.value.hint


def test_a_file_of_another_sort_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "architecture.json"
    other.write_text('{"family": "ibn-classifier"}')
    with pytest.raises(EstimatorError, match="not an estimator of a device"):
        load_device(other)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_a_typed_error_or_a_whole_estimator(data: st.DataObject, path: Path) -> None:
    document = json.loads(path.read_text())
    _damage(document, data)
    damaged = path.with_name("damaged.json")
    damaged.write_text(json.dumps(document))
    with contextlib.suppress(EstimatorError):
        assert isinstance(load_device(damaged), DeviceEstimator)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=40), st.floats(0, 1))
def test_damaged_bytes_are_a_typed_error_or_a_whole_estimator(path: Path, noise: bytes, where: float) -> None:
    content = path.read_bytes()
    start = int(where * len(content))
    damaged = path.with_name("noise.json")
    damaged.write_bytes(content[:start] + noise + content[start + len(noise) + 1 :])
    with contextlib.suppress(EstimatorError):
        assert isinstance(load_device(damaged), DeviceEstimator)


def _damage(document: Any, data: st.DataObject) -> None:
    """Walks to a random place and puts something else there, or takes it away."""
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            place = inner
            continue
        if data.draw(st.booleans()) and isinstance(place, dict):
            del place[key]
        else:
            place[key] = data.draw(st.sampled_from([None, -1, 1e308, "x", [], {}, [[1]], True]))
        return
