"""Plots: what they show is written beside them and adds up; equal data gives equal pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from export_examples import Mixed, int8_model

from lanefit.common.errors import InputError
from lanefit.export.pipeline import build
from lanefit.export.plots import write_plots
from lanefit.export.profiling import Profile
from lanefit.export.roofline import RoofPoint, roof, roof_points, worst
from lanefit.targets.spec import load_spec

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def profile() -> Profile:
    """Two regions, layers with and without MACs."""
    built = build(int8_model(Mixed), load_spec("ne-64"))
    return Profile(built.spec, built.compiled, built.placements)


@pytest.fixture(scope="module")
def folder(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plots") / "new"
    written = write_plots(profile, path, name="mixed", top=3)
    assert [item.name for item in written] == ["roofline.json", "roofline.png", "sram.json", "sram.png"]
    assert {item.name for item in path.iterdir()} == {item.name for item in written}
    return path


def _document(folder: Path, stem: str) -> dict[str, Any]:
    return json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("stem", ["sram", "roofline"])
def test_pictures_are_png_files_that_equal_data_repeats(
    profile: Profile, folder: Path, stem: str, tmp_path: Path
) -> None:
    data = (folder / f"{stem}.png").read_bytes()
    assert data.startswith(PNG)
    write_plots(profile, tmp_path, name="mixed", top=3)
    assert (tmp_path / f"{stem}.png").read_bytes() == data


def test_the_sram_data_cover_all_regions_up_to_the_peak(profile: Profile, folder: Path) -> None:
    document = _document(folder, "sram")
    assert document["sram_peak_bytes"] == profile.sram_bytes
    assert document["sram_peak_bytes"] <= document["sram_bytes"]
    assert max(span["address"] + span["size_bytes"] for span in document["spans"]) <= profile.sram_bytes
    assert len(document["spans"]) == sum(len(item.plan.blocks) for item in profile.compiled)
    assert max(span["end_us"] for span in document["spans"]) == pytest.approx(profile.latency_us)


def test_no_layer_lies_above_the_roof(profile: Profile, folder: Path) -> None:
    document = _document(folder, "roofline")
    assert [layer["label"] for layer in document["layers"]] == [row.report.label for row in profile.rows()]
    for layer in document["layers"]:
        assert layer["rate"] <= layer["roof"] * 1.000001 <= document["macs_per_cycle"] * 1.000001
        if layer["intensity"] is not None:
            assert layer["intensity"] == pytest.approx(layer["macs"] / layer["traffic_bytes"])


def test_the_worst_are_those_that_lose_most_cycles(profile: Profile, folder: Path) -> None:
    points = roof_points(profile.rows(), profile.spec)
    chosen = worst(points, 3)
    assert [point.label for point in chosen] == _document(folder, "roofline")["worst"]
    others = [point.lost_cycles for point in points if point not in chosen]
    assert min(point.lost_cycles for point in chosen) >= max(others)


def test_the_roof_is_the_channel_below_the_ridge_and_the_array_above_it() -> None:
    spec = replace(load_spec("ne-256"), flash_bytes_per_cycle=2.0)
    ridge = spec.parallelism / (spec.dram_bytes_per_cycle + 2)
    assert roof(spec, ridge / 2) == pytest.approx(spec.parallelism / 2)
    assert roof(spec, ridge * 2) == roof(spec, None) == spec.parallelism


def test_a_layer_without_traffic_has_no_intensity_and_the_full_roof(profile: Profile) -> None:
    points = roof_points(profile.rows(), profile.spec)
    silent = [point for point in points if not point.traffic_bytes]
    assert all(point.intensity is None for point in silent)
    without: list[RoofPoint] = [point for point in points if not point.macs]
    assert without, "the network has a layer without MACs"
    assert all(point.rate == point.roof == 0 for point in without)


def test_a_network_on_the_cpu_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing runs on the engine"):
        write_plots(Profile(load_spec("ne-64"), ()), tmp_path / "plots", name="none")
    assert not (tmp_path / "plots").exists()
