"""`lanefit advise`: tables, JSON, what is written, what is refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from advice_networks import bottlenecks
from cli_runner import Cli

from lanefit.models.architecture import read_architecture

RULES = ("--rule", "lower-resolution", "--rule", "shrink-head")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(bottlenecks(size=64).SerializeToString())
    return path


def test_the_table_says_what_each_rule_saves_and_why(cli: Cli, model: Path) -> None:
    ran = cli("advise", model, "--target", "ne-64", *RULES)
    assert ran.code == 0
    assert "each rule alone" in ran.out
    assert "less latency" in ran.out.splitlines()[-1]


def test_the_changed_model_is_written_and_as_fast_as_promised(cli: Cli, model: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.onnx"
    ran = cli("advise", model, "-t", "ne-64", *RULES, "--apply", changed, "--format", "json")
    onnx.checker.check_model(onnx.load(changed))
    promised = ran.document["together"][-1]["after"]["latency_us"]
    profiled = cli("profile", changed, "-t", "ne-64", "--format", "json").document["totals"]["latency_us"]
    assert profiled == pytest.approx(promised, rel=0.05)
    assert promised < ran.document["before"]["latency_us"]
    assert "must be trained again" in ran.err


def test_an_architecture_is_written_as_toml(cli: Cli, tmp_path: Path) -> None:
    changed = tmp_path / "changed.toml"
    ran = cli("advise", "baseline", "-t", "ne-64", "--rule", "shrink-head", "--apply", changed)
    assert ran.code == 0
    assert read_architecture(changed).values["head_channels"] == 640
    assert f"lanefit search --family ibn-classifier --target ne-64 --enqueue {changed}" in " ".join(ran.out.split())


def test_a_file_of_the_wrong_kind_is_refused_before_any_work(cli: Cli, model: Path, tmp_path: Path) -> None:
    ran = cli("advise", model, "-t", "ne-64", "--apply", tmp_path / "changed.toml")
    assert ran.code == 2
    assert "*.onnx" in ran.err


def test_without_a_target_the_error_says_so(cli: Cli, model: Path) -> None:
    ran = cli("advise", model)
    assert ran.code == 2
    assert "no target given" in ran.err
