"""Devices whose energy was measured: the same commands with another column."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import Cli
from kernel_device import network_us, random_networks

from lanefit.estimator.opgraph.onnx_writer import to_model

UJ_PER_US = 4.2  # watts of the synthetic board


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks with their latency and their energy."""
    folder = tmp_path_factory.mktemp("energy")
    lines = ["onnx,latency_ms,energy_mj"]
    for number, graph in enumerate(random_networks(11, 0, dtype="float32")):
        (folder / f"net{number}.onnx").write_bytes(to_model(graph).SerializeToString())
        ms = network_us(graph) / 1e3
        lines.append(f"net{number}.onnx,{ms:.6f},{UJ_PER_US * ms:.6f}")
    (folder / "list.csv").write_text("\n".join(lines[:-1]) + "\n")
    return folder / "list.csv"


def test_energy_is_calibrated_and_shown_with_its_unit(cli: Cli, listing: Path, tmp_path: Path) -> None:
    energy, latency = tmp_path / "energy.json", tmp_path / "latency.json"
    ran = cli("calibrate", "board", "--networks", listing, "--quantity", "energy", "-o", energy)
    assert ran.code == 0
    assert "energy in uJ" in ran.out
    cli("calibrate", "board", "--networks", listing, "-o", latency)
    unseen = listing.parent / "net10.onnx"
    joules = cli("profile", unseen, "--target", energy, "--format", "json").document["estimate"]
    times = cli("profile", unseen, "--target", latency, "--format", "json").document["estimate"]
    assert joules["energy_uj"] == pytest.approx(UJ_PER_US * times["latency_us"], rel=0.05)
    assert joules["lower_uj"] <= joules["energy_uj"] <= joules["upper_uj"]
    assert not any(key.endswith("_us") for key in joules)
    shown = cli("profile", listing.parent / "net3.onnx", "--target", energy)
    assert " mJ on board" in shown.out or " uJ on board" in shown.out
    assert "measured" in shown.out


def test_a_latency_budget_is_not_proven_by_an_estimator_of_energy(cli: Cli, listing: Path, tmp_path: Path) -> None:
    cli("calibrate", "board", "--networks", listing, "--quantity", "energy", "-o", tmp_path / "e.json")
    ran = cli("profile", listing.parent / "net3.onnx", "--target", tmp_path / "e.json", "-b", "latency=1s")
    assert ran.code == 2
    assert "latency" in ran.err


@pytest.mark.parametrize(
    ("header", "option", "message"),
    [
        ("onnx,energy_mj", "latency", "--quantity energy reads energy_mj"),
        ("onnx,latency_ms", "energy", "no energy with a unit in its name"),
        ("onnx,energy_mj,energy_uj", "energy", "several energies"),
        ("onnx,energy_mj", "power", "unknown quantity 'power'"),
    ],
)
def test_columns_that_do_not_hold_the_quantity_are_refused(
    cli: Cli, tmp_path: Path, header: str, option: str, message: str
) -> None:
    (tmp_path / "list.csv").write_text(f"{header}\n{','.join(['1'] * (header.count(',') + 1))}\n")
    ran = cli("calibrate", "board", "--networks", tmp_path / "list.csv", "--quantity", option)
    assert ran.code == 2
    assert message in ran.err
