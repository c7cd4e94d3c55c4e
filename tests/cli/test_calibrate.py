"""`lanefit calibrate` and `lanefit profile --target FILE`: card, file, plots, predictions, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import Cli
from kernel_device import device_us, network_us, random_networks, random_operators

from lanefit.estimator.devices.files import load_device
from lanefit.estimator.opgraph.fusion import NO_FUSION
from lanefit.estimator.opgraph.onnx_writer import to_model
from lanefit.estimator.opgraph.operator import Operator

HEADER = "conv_type,batch,cin,h,w,cout,k,stride,latency_us"


def row(operator: Operator, latency_us: float) -> str:
    batch, channels, height, width = operator.inputs[0]
    window = operator.window
    assert window is not None
    shape = (batch, channels, height, width, operator.output[1], window.kernel[0], window.stride[0])
    return f"Regular,{','.join(map(str, shape))},{latency_us:.4f}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has measured: operators, and networks as ONNX files."""
    folder = tmp_path_factory.mktemp("lab")
    operators = random_operators(60, 0, depthwise=0)
    rows = [row(operator, latency) for operator, latency in zip(operators, device_us(operators).tolist(), strict=True)]
    (folder / "kernels.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    listing = ["onnx,latency_ms"]
    for number, graph in enumerate(random_networks(11, 0, dtype="float32")):
        (folder / f"net{number}.onnx").write_bytes(to_model(graph).SerializeToString())
        listing.append(f"net{number}.onnx,{network_us(graph) / 1e3:.6f}")
    (folder / "networks.csv").write_text("\n".join(listing[:-1]) + "\n")
    return folder


def test_calibrating_prints_the_card_and_writes_what_profile_predicts_with(cli: Cli, lab: Path, tmp_path: Path) -> None:
    file, plots = tmp_path / "board.json", tmp_path / "plots"
    ran = cli(
        "calibrate", "board", "--from", lab / "kernels.csv", "--networks", lab / "networks.csv", "--units", "24",
        "-o", file, "--plots", plots,
    )  # fmt: skip
    assert ran.code == 0
    assert "60 in kernels.csv, 10 in networks.csv" in ran.out
    for text in ("data hash", "conv float32", "networks", "valid for", str(file)):
        assert text in ran.out
    assert {path.name for path in plots.iterdir()} == {"errors.json", "errors.png", "predicted.json", "predicted.png"}
    profile = cli("profile", lab / "net3.onnx", "--target", file, "--format", "json").document
    estimate, memory = profile["estimate"], profile["memory"]
    assert memory["peak_bytes"] == memory["arena_bytes"] + memory["weight_bytes"] > memory["live_bytes"] > 0
    assert estimate["lower_us"] <= estimate["latency_us"] <= estimate["upper_us"]
    assert estimate["measured_us"] == pytest.approx(network_us(random_networks(11, 0, dtype="float32")[3]), rel=1e-3)
    unseen = cli("profile", lab / "net10.onnx", "--target", file, "--format", "json").document["estimate"]
    assert unseen["measured_us"] is None
    assert unseen["latency_us"] == pytest.approx(network_us(random_networks(11, 0, dtype="float32")[10]), rel=0.25)


def test_the_longest_operators_and_the_verdict_are_shown(cli: Cli, lab: Path, tmp_path: Path) -> None:
    file = tmp_path / "board.json"
    listing = tmp_path / "few.csv"
    lines = (lab / "networks.csv").read_text().splitlines()[:4]
    listing.write_text("\n".join([lines[0], *(f"{lab}/{line}" for line in lines[1:])]) + "\n")
    cli("calibrate", "board", "--from", lab / "kernels.csv", "--networks", listing, "--units", "24", "-o", file)
    for limit, code, word in (("latency=1s", 0, "PASS"), ("latency=1us", 1, "FAIL")):
        ran = cli("profile", lab / "net3.onnx", "--target", file, "--budget", limit, "--top", "2")
        assert ran.code == code
        assert ran.out.startswith(word)
        assert "nine of ten lie in" in ran.out
        assert ran.out.count("conv ") + ran.out.count("global-pool") == 2


def test_a_device_that_fuses_nothing_can_be_told_so(cli: Cli, lab: Path, tmp_path: Path) -> None:
    ran = cli("calibrate", "board", "--networks", lab / "networks.csv", "--no-fusion", "-o", tmp_path / "a.json")
    assert "nothing" in ran.out
    assert load_device(tmp_path / "a.json").fusion == NO_FUSION


def test_two_calibrations_write_the_same_bytes(cli: Cli, lab: Path, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        cli("calibrate", "board", "--networks", lab / "networks.csv", "-o", tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to calibrate from"),
        (("--from", "absent.csv"), "cannot read absent.csv"),
        (("--from", "kernels.csv", "--pack", "4"), "give --units"),
        (("--networks", "kernels.csv"), "no column onnx"),
    ],
)
def test_what_cannot_be_calibrated_from_is_refused(
    cli: Cli, lab: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(lab)
    ran = cli("calibrate", "board", *arguments)
    assert ran.code == 2
    assert message in ran.err


def test_a_corrupt_row_is_refused_with_its_number(cli: Cli, lab: Path, tmp_path: Path) -> None:
    table = tmp_path / "kernels.csv"
    table.write_text((lab / "kernels.csv").read_text() + "Regular,1,8,8,8,8,3,1,-4\n")
    ran = cli("calibrate", "board", "--from", table)
    assert ran.code == 2
    assert "row 62 of kernels.csv: latency_us is -4; a latency is positive" in ran.err


def test_a_name_that_is_no_name_is_refused(cli: Cli, lab: Path) -> None:
    ran = cli("calibrate", "a/b", "--from", lab / "kernels.csv")
    assert ran.code == 2
    assert "no name for a device" in ran.err


def test_architectures_are_predicted_too_and_flagged_where_nothing_like_them_was_measured(
    cli: Cli, lab: Path, architecture_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "board.json"
    cli("calibrate", "board", "--networks", lab / "networks.csv", "-o", file)
    ran = cli("profile", architecture_file, "--target", file, "--format", "json")
    assert ran.code == 0
    assert ran.document["estimate"]["extrapolated"]
    assert "its interval is no promise" in ran.err


def test_files_that_are_no_device_and_models_that_no_device_runs_are_refused(
    cli: Cli, lab: Path, tmp_path: Path
) -> None:
    absent = cli("profile", lab / "net0.onnx", "--target", tmp_path / "absent.json")
    assert (absent.code, "absent.json does not exist" in absent.err) == (2, True)
    other = tmp_path / "other.json"
    other.write_text('{"schema_version": 1}')
    foreign = cli("profile", lab / "net0.onnx", "--target", other)
    assert (foreign.code, "not an estimator of a device" in foreign.err) == (2, True)
    cli("calibrate", "board", "--networks", lab / "networks.csv", "-o", tmp_path / "board.json")
    package = cli("profile", tmp_path / "any.lanefit", "--target", tmp_path / "board.json")
    assert (package.code, "made for an engine" in package.err) == (2, True)


def test_an_unknown_operator_of_a_network_is_refused_by_name(cli: Cli, lab: Path, tmp_path: Path) -> None:
    file = tmp_path / "board.json"
    cli("calibrate", "board", "--from", lab / "kernels.csv", "--units", "24", "-o", file)
    ran = cli("profile", lab / "net0.onnx", "--target", file)
    assert ran.code == 2
    assert "no global-pool float32 was measured on this device" in ran.err
