import json
from pathlib import Path

import numpy as np
import pytest
from kernel_device import device_us, network_us, random_networks, random_operators

from lanefit.estimator.devices.fitting import DeviceFit, MeasuredNetwork, Measurements, fit_device
from lanefit.estimator.devices.machine import Machine
from lanefit.estimator.devices.plots import learning_curve, write_plots
from lanefit.estimator.tables.kernels import KernelTime


@pytest.fixture(scope="module")
def measurements() -> Measurements:
    operators = random_operators(220, 0)
    pairs = zip(operators, device_us(operators).tolist(), strict=True)
    kernels = tuple(KernelTime(operator, latency, row) for row, (operator, latency) in enumerate(pairs, 2))
    networks = tuple(MeasuredNetwork(f"n{i}", g, network_us(g)) for i, g in enumerate(random_networks(4, 0)))
    return Measurements(kernels, networks)


@pytest.fixture(scope="module")
def fit(measurements: Measurements) -> DeviceFit:
    return fit_device("board", measurements, machine=Machine(24), trees=10)


def test_plots_come_with_their_data(fit: DeviceFit, measurements: Measurements, tmp_path: Path) -> None:
    paths = write_plots(fit, measurements, tmp_path)
    assert [path.name for path in paths] == [
        "errors.json", "errors.png", "learning.json", "learning.png", "predicted.json", "predicted.png",
    ]  # fmt: skip
    points = json.loads((tmp_path / "predicted.json").read_text())
    assert set(points) == {"conv int8", "depthwise-conv int8", "networks"}
    assert sum(len(found["measured_us"]) for found in points.values()) == 224
    for name, found in json.loads((tmp_path / "errors.json").read_text()).items():
        assert found == sorted(found)
        assert len(found) == len(points[name]["measured_us"])


def test_more_operators_teach_more(fit: DeviceFit, measurements: Measurements) -> None:
    curve = learning_curve(measurements, fit)
    assert [count for count, _ in curve] == [20, 41, 82, 165]
    assert curve[-1][1] > curve[0][1]
    assert np.all([0 <= share <= 1 for _, share in curve])


def test_few_operators_have_no_learning_curve(fit: DeviceFit, measurements: Measurements) -> None:
    assert learning_curve(Measurements(measurements.kernels[:100]), fit) == []
