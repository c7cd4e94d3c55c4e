"""`lanefit curate`, on a cost model that needs no fit."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from cli_runner import Cli

from lanefit.models.layers import LayerSpec
from lanefit.nas.curation import TargetCosts
from lanefit.nas.curation.costs import work_of


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every target costs an overhead for each layer and its work."""

    def cost(layers: tuple[LayerSpec, ...]) -> float:
        return 1.0 + len(layers) + work_of(layers)[0] / 1e5

    monkeypatch.setattr("lanefit.cli.curate.costs_of", lambda *_: TargetCosts("quick", cost))


@pytest.mark.usefixtures("quick")
def test_the_report_names_what_stays_what_goes_and_how_rugged_the_cost_is(cli: Cli) -> None:
    ran = cli("curate", "nas-bench-201", "--target", "quick", "--steps", 50, "--format", "json")
    assert ran.code == 0
    assert ran.document["factor"] == ran.document["cardinality_before"] / ran.document["cardinality_after"]
    assert ran.document["walks"]["after"]["falls"] <= ran.document["walks"]["before, as listed"]["falls"]
    assert {knob["knob"] for knob in ran.document["knobs"]} == {f"node{t}_from{s}" for t in (1, 2, 3) for s in range(t)}
    shown = cli("curate", "nas-bench-201", "--target", "quick", "--steps", 0).out
    assert "worth searching on quick" in shown
    assert "times fewer" in shown


@pytest.mark.usefixtures("quick")
def test_the_space_and_the_landscape_are_written_on_request(cli: Cli, tmp_path: Path) -> None:
    space, picture = tmp_path / "space.toml", tmp_path / "landscape.png"
    ran = cli("curate", "nas-bench-201", "--target", "quick", "--steps", 0, "--out", space, "--picture", picture)
    assert ran.code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "landscape.html").read_text(encoding="utf-8").lstrip().lower().startswith(("<html", "<!doctype"))
    document = tomllib.loads(space.read_text(encoding="utf-8"))
    assert (document["family"], document["curate"], document["ordered"]) == ("nas-bench-201", False, True)
    assert cli("search", "--config", space, "--target", "ne-64", "--dry-run").code == 0


def test_a_missing_target_and_wrong_file_names_are_refused_before_any_work(cli: Cli, tmp_path: Path) -> None:
    assert "needs a target" in cli("curate", "nas-bench-201").err
    wrong = cli("curate", "nas-bench-201", "-t", "ne-64", "--out", tmp_path / "space.json")
    assert (wrong.code, "does not end in .toml" in wrong.err) == (2, True)
    assert cli("curate", "nas-bench-20", "-t", "ne-64").code == 2
    assert cli("curate", "nas-bench-201", "-t", tmp_path / "absent.json").code == 2
