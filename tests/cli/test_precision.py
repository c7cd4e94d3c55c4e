"""`--precision` and `--precision-of`."""

from pathlib import Path

import pytest
from cli_runner import Cli
from export_examples import EveryOperator, float_model

from lanefit.export.onnx_model import model_bytes
from lanefit.kernels.element_types import PRECISIONS


def test_the_command_takes_precisions(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(model_bytes(float_model(EveryOperator)))
    cycles = {}
    for name in PRECISIONS:
        ran = cli("profile", path, "-t", "ne-64", "--precision", name, "--format", "json")
        assert ran.code == 0, ran.err
        cycles[name] = ran.document["totals"]["latency_us"]
    assert cycles["int8"] < cycles["int8x16"] < cycles["bf16"]
    assert cli("profile", path, "-t", "ne-64", "--precision", "fp8").code == 2
    assert cli("profile", path, "-t", "ne-64", "--precision-of", "bf16").code == 2


def test_a_file_chooses_by_name_and_options_go_before_it(cli: Cli, tmp_path: Path) -> None:
    model, file = tmp_path / "a.onnx", tmp_path / "p.toml"
    model.write_bytes(model_bytes(float_model(EveryOperator)))
    names = [row["nodes"][0] for row in profiled(cli, model)]
    file.write_text(f'[precision]\ndefault = "int8x16"\n"{names[0]}" = "bf16"\n')
    rows = {row["nodes"][0]: row["precision"] for row in profiled(cli, model, "--precision-file", file)}
    assert rows[names[0]] == "bf16"
    assert {"int8x16", "int8 to bf16", "bf16 to int8x16"} <= set(rows.values())
    rows = profiled(cli, model, "--precision-file", file, "--precision-of", f"{names[0]}=int8x16")
    assert "bf16" not in {row["precision"] for row in rows}
    assert {row["precision"] for row in profiled(cli, model)} == {"int8"}


def profiled(cli: Cli, model: Path, *options: object) -> list[dict]:
    ran = cli("profile", model, "-t", "ne-64", *options, "--format", "json")
    assert ran.code == 0, ran.err
    return ran.document["subgraphs"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[precision]\ndefault = 'bf61'\n", "did you mean bf16"),
        ("[precision]\nconv = 8\n", "precision.conv"),
        ("[other]\n", "no table [precision]"),
        ("[precision", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(cli: Cli, tmp_path: Path, text: str, said: str) -> None:
    model, file = tmp_path / "a.onnx", tmp_path / "p.toml"
    model.write_bytes(model_bytes(float_model(EveryOperator)))
    file.write_text(text)
    ran = cli("profile", model, "-t", "ne-64", "--precision-file", file)
    assert ran.code == 2
    assert said in ran.err
    assert "p.toml" in ran.err


def test_a_mistyped_operator_gets_its_nearest_names(cli: Cli, tmp_path: Path) -> None:
    model = tmp_path / "a.onnx"
    model.write_bytes(model_bytes(float_model(EveryOperator)))
    name = profiled(cli, model)[0]["nodes"][0]
    ran = cli("profile", model, "-t", "ne-64", "--precision-of", f"{name}x=bf16")
    assert ran.code == 2
    assert f"did you mean {name}" in ran.err
