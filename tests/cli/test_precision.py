"""`--precision` and `--precision-of`."""

from pathlib import Path

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
