"""`lanefit list` and `lanefit info`."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import Cli

from lanefit.cli.listing import Kind
from lanefit.export.placement import support_table
from lanefit.targets.spec import load_spec, preset_names, spec_from_toml


@pytest.mark.parametrize("kind", list(Kind))
def test_every_list_has_rows_as_table_and_as_json(cli: Cli, kind: Kind) -> None:
    ran = cli("list", kind, "--format", "json")
    items = ran.document["items"]
    assert ran.code == 0
    assert items
    assert next(iter(items[0].values())) in cli("list", kind).out


def test_targets_are_listed_with_memories_and_the_channels_that_fill_their_lanes(cli: Cli) -> None:
    items = {item["name"]: item for item in cli("list", "targets", "--format", "json").document["items"]}
    assert set(items) == set(preset_names())
    ne256, ethos = items["ne-256"], items["ethos-u55-128"]
    assert (ne256["parallelism"], ne256["channels_in_x_out"], ne256["dram_bytes_per_cycle"]) == ("256", "16x16", "8")
    assert (ethos["channels_in_x_out"], ethos["flash_bytes_per_cycle"]) == ("32x8", "1")
    assert ethos["dram_bytes_per_cycle"] == "0"  # it has none


def test_supported_operators_come_from_the_rules(cli: Cli) -> None:
    items = cli("list", "ops", "--target", "ne-64", "--format", "json").document["items"]
    assert [tuple(item.values()) for item in items] == list(support_table())
    assert "operators that ne-64 takes" in cli("list", "ops", "-t", "ne-64").out


def test_listing_operators_of_an_unknown_target_is_refused(cli: Cli) -> None:
    assert cli("list", "ops", "--target", "ne-1").code == 2


def test_the_environment_is_shown_for_bug_reports(cli: Cli) -> None:
    document = cli("info", "--format", "json").document
    assert {"lanefit", "torch", "apache-tvm"} <= set(document["versions"])
    assert document["environment"]["cores"] >= 1
    assert "python" in cli("info").out


def test_a_target_is_described_with_every_field(cli: Cli) -> None:
    spec = load_spec("ne-256")
    document = cli("info", "ne-256", "--format", "json").document
    assert document == {**spec.as_dict(), "parallelism": 256, "digest": spec.digest()}


def test_the_toml_of_a_target_is_a_target(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(cli("info", "ne-256", "--toml").out, encoding="utf-8")
    assert spec_from_toml(path.read_text(encoding="utf-8"), where="test") == load_spec("ne-256")
    assert cli("info", path).code == 0


def test_a_folder_in_place_of_a_target_file_is_refused(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "x.toml"
    folder.mkdir()
    ran = cli("info", folder)
    assert ran.code == 2
    assert "cannot read x.toml" in ran.err
