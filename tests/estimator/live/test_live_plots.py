"""Pictures of a live calibration, and the figures behind them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from estimator.live.synthetic import true_latency_us
from estimator.live.test_additive import CACHES, as_sum, random_graph

from lanefit.estimator.live.additive import fit_additive
from lanefit.estimator.live.files import CalibratedDevice
from lanefit.estimator.live.plots import learning_curve, live_points, write_plots
from lanefit.estimator.live.protocol import Measured
from lanefit.estimator.live.store import LiveMeasurement

GENERATOR = np.random.default_rng(0)
GRAPHS = [random_graph(GENERATOR, int(GENERATOR.integers(2, 6))) for _ in range(80)]
SPOILED = 5


@pytest.fixture(scope="module")
def device() -> CalibratedDevice:
    latencies = [true_latency_us(g) for g in GRAPHS]
    latencies[SPOILED] *= 3
    return CalibratedDevice(fit_additive([as_sum(g) for g in GRAPHS], latencies), "synthetic", "synthetic 1", CACHES)


@pytest.fixture(scope="module")
def networks() -> list[LiveMeasurement]:
    graphs = [random_graph(GENERATOR, 15) for _ in range(12)]
    measured = [Measured((true_latency_us(g),), ((true_latency_us(g),),), (1.0,), True) for g in graphs]
    return [
        LiveMeasurement("network", f"net{i}", "synthetic", "synthetic 1", as_sum(g), m)
        for i, (g, m) in enumerate(zip(graphs, measured, strict=True))
    ]


def test_a_piece_is_predicted_by_the_others_alone(device: CalibratedDevice) -> None:
    left_out = device.model.left_out_us()
    truth = [true_latency_us(g) for g in GRAPHS]
    assert left_out[SPOILED] == pytest.approx(truth[SPOILED], rel=0.1)
    assert np.mean(np.abs(left_out / truth - 1) < 0.1) > 0.9


def test_every_piece_and_network_is_a_point(device: CalibratedDevice, networks: list[LiveMeasurement]) -> None:
    points = live_points(device.model, networks)
    assert len(points.pop("networks")[0]) == 12
    assert sum(len(measured) for _, measured in points.values()) == len(GRAPHS)
    assert all(name.startswith("pieces: ") for name in points)


def test_more_pieces_predict_networks_better(device: CalibratedDevice, networks: list[LiveMeasurement]) -> None:
    curve = learning_curve(device.model, networks)
    assert [count for count, _ in curve] == [10, 20, 40, 80]
    assert curve[-1][1] >= max(0.9, curve[0][1])
    assert learning_curve(device.model, []) == []


def test_pictures_are_written_with_their_data(
    device: CalibratedDevice, networks: list[LiveMeasurement], tmp_path: Path
) -> None:
    paths = write_plots(device, networks, tmp_path, title="board")
    assert {path.name for path in paths} == {
        f"{name}.{kind}" for name in ("predicted", "errors", "learning") for kind in ("png", "json")
    }
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths if path.suffix == ".png")
    assert len(json.loads((tmp_path / "errors.json").read_text())["networks"]) == 12
