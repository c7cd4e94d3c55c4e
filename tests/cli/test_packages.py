"""`lanefit export`, `run` and `inspect` on one tiny network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from export_examples import EveryOperator, float_model
from PIL import Image

from lanefit.export.onnx_model import model_bytes
from lanefit.export.package import read_package
from lanefit.export.run import run_package
from lanefit.models.registry import find_task
from lanefit.models.tasks import Split


@pytest.fixture(scope="module")
def digit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image, _ = find_task("digits").example(Split.TEST, 3)
    path = tmp_path_factory.mktemp("digit") / "digit.png"
    Image.fromarray(np.asarray(image)).save(path)
    return path


def test_export_reports_stages_members_and_a_warning_for_random_weights(
    cli: Cli, architecture_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "a.lanefit"
    ran = cli("export", architecture_file, "-t", "ne-64", "-o", path, "-b", "latency=1s", "--format", "json")
    assert ran.code == 0
    assert "never trained" in ran.err
    document = ran.document
    assert document["verification"]["passed"] is True
    assert document["verdict"]["passed"] is True
    assert set(document["members"]) == set(read_package(path).files)
    assert document["size_bytes"] == path.stat().st_size


def test_export_writes_each_program_as_a_tosa_file_too(cli: Cli, architecture_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tosa_serializer", reason="tosa-tools is not installed")
    ran = cli("export", architecture_file, "-t", "ne-64", "-o", tmp_path / "a.lanefit", "--tosa", tmp_path / "tosa")
    assert ran.code == 0
    programs = [region.program for region in read_package(tmp_path / "a.lanefit").manifest.regions]
    written = sorted(path.name for path in (tmp_path / "tosa").iterdir())
    assert written == sorted(name.replace(".bin", ".tosa") for name in programs)
    assert all(path.read_bytes()[4:8] == b"TOSA" for path in (tmp_path / "tosa").iterdir())


def test_the_default_package_keeps_how_to_prepare_an_image(package_file: Path) -> None:
    manifest = read_package(package_file).manifest
    assert manifest.preprocessing is not None
    assert manifest.preprocessing.resolution == (8, 8)
    assert manifest.preprocessing.class_names == tuple("0123456789")
    assert manifest.provenance["task"] == "digits"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("{onnx}", "-t", "ne-64"), "must be quantised first"),
        (("{onnx}", "-t", "ne-64", "-c", "task:nope"), "unknown task"),
        (("{onnx}", "-t", "ne-64", "-c", "{empty}"), "cannot become inputs"),
        (("{tiny}", "-t", "ne-64", "-c", "{empty}"), "neither images nor"),
        (("{tiny}", "-t", "ne-64", "-c", "absent"), "there is no folder"),
        (("{tiny}", "-t", "ne-64", "-b", "accuracy=1%"), "no accuracy is measured"),
        (("{package}",), "a package already"),
    ],
)
def test_exports_that_cannot_be_are_refused_before_work(
    cli: Cli, architecture_file: Path, package_file: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    onnx, empty = tmp_path / "net.onnx", tmp_path / "empty"
    onnx.write_bytes(model_bytes(float_model(EveryOperator)))
    empty.mkdir()
    places = {"onnx": onnx, "empty": empty, "tiny": architecture_file, "package": package_file}
    ran = cli("export", *(word.format(**places) for word in words), "-o", tmp_path / "x.lanefit")
    assert ran.code == 2
    assert says in ran.err
    assert not (tmp_path / "x.lanefit").exists()


def test_an_image_is_classified_as_the_package_says(cli: Cli, package_file: Path, digit: Path) -> None:
    document = cli("run", package_file, "--input", digit, "--format", "json").document
    task, package = find_task("digits"), read_package(package_file)
    image, _ = task.example(Split.TEST, 3)
    expected = run_package(package, {"input": task.preprocess(image, 8)[None]})
    assert document["outputs"]["output"] == expected["output"].tolist()
    best = document["top"][0]
    assert len(best) == 3
    assert best[0]["name"] == str(expected["output"][0].argmax())
    assert best[0]["score"] >= best[1]["score"]
    assert document["latency_us"] > 0


def test_a_table_names_class_and_latency(cli: Cli, package_file: Path, digit: Path) -> None:
    ran = cli("run", package_file, "-i", digit, "--top", "2", "--time")
    assert ran.code == 0
    assert "class" in ran.out
    assert "modelled latency on the engine" in ran.out
    assert "ARRAY" in ran.out


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 1, 8, 8), (2, 1, 8, 8)])
def test_arrays_run_as_they_are(cli: Cli, package_file: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(shape, np.float32))
    document = cli("run", package_file, "-i", path, "--format", "json").document
    assert len(document["top"]) == (2 if shape[0] == 2 else 1)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((1, 9, 8), np.float32), "takes float32 (1, 1, 8, 8), got float32 (1, 9, 8)"),
        (np.zeros((1, 8, 8), np.float64), "takes float32 (1, 1, 8, 8), got float64 (1, 8, 8)"),
        (np.zeros((0, 1, 8, 8), np.float32), "got float32 (0, 1, 8, 8)"),
    ],
)
def test_wrong_arrays_are_refused_with_expected_and_got(
    cli: Cli, package_file: Path, tmp_path: Path, array: np.ndarray, says: str
) -> None:
    path = tmp_path / "x.npy"
    np.save(path, array)
    ran = cli("run", package_file, "-i", path)
    assert ran.code == 2
    assert says in ran.err


@pytest.mark.parametrize("name", ["x.npy", "x.png"])
def test_damaged_inputs_are_refused(cli: Cli, package_file: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"nonsense")
    ran = cli("run", package_file, "-i", path)
    assert ran.code == 2
    assert str(path) in ran.err


def test_an_unknown_device_is_refused(cli: Cli, package_file: Path, digit: Path) -> None:
    assert "known: emulator" in cli("run", package_file, "-i", digit, "--device", "board").err


@pytest.mark.parametrize("command", ["run", "inspect", "profile"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign"])
def test_a_damaged_package_is_refused_by_every_command(
    cli: Cli, package_file: Path, digit: Path, tmp_path: Path, command: str, damage: str
) -> None:
    data = bytearray(package_file.read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[len(data) // 2] ^= 4
    else:
        data[:] = b"PK nothing"
    path = tmp_path / "bad.lanefit"
    path.write_bytes(data)
    ran = cli(command, path, *(("-i", digit) if command == "run" else ()), "--format", "json")
    assert ran.code == 2
    assert ran.document["error"]["code"] == "package"


def test_inspect_lists_members_ports_and_instructions(cli: Cli, package_file: Path) -> None:
    document = cli("inspect", package_file, "--format", "json").document
    package = read_package(package_file)
    assert {name: item["size_bytes"] for name, item in document["members"].items()} == {
        name: len(data) for name, data in package.files.items()
    }
    assert document["inputs"][0]["shape"] == [1, 1, 8, 8]
    queues = document["programs"]["program.bin"]["instructions"]
    assert {unit: sum(found.values()) for unit, found in queues.items()} == {
        unit.name: len(queue) for unit, queue in package.programs()[0].queues.items()
    }
    program = document["programs"]["program.bin"]
    assert program["sections"]["constants"] == program["constants_bytes"]
    assert 0 < program["size_bytes"] - sum(program["sections"].values()) < 200, "all but header and table is a section"


def test_inspect_shows_memory_placement_and_disassembly_on_request(cli: Cli, package_file: Path) -> None:
    out = cli("inspect", package_file, "--memory", "--placement", "--disassemble").out
    assert "SRAM peak" in out
    assert "QuantizeLinear" in out
    assert "queue ARRAY" in out
    assert 'mark 0 "' in out


def test_the_memory_map_shows_the_plan_of_dram_and_sram(cli: Cli, package_file: Path) -> None:
    document = cli("inspect", package_file, "--memory", "--format", "json").document["memory"]["program.bin"]
    assert [item["start"] for item in document["dram"]] == sorted(item["start"] for item in document["dram"])
    ends = [item["address"] + item["size_bytes"] for item in document["sram"]]
    assert document["sram_peak_bytes"] - 16 < max(ends) <= document["sram_peak_bytes"] <= document["sram_bytes"]
    assert {"maps", "weights"} <= {item["kind"] for item in document["sram"]}
    out = cli("inspect", package_file, "--memory").out
    assert all(item["name"] in out for item in document["sram"])


def test_the_disassembly_names_the_operators_that_a_subgraph_was_made_from(cli: Cli, package_file: Path) -> None:
    document = cli("inspect", package_file, "--disassemble", "--placement", "--format", "json").document
    listing = document["disassembly"]["program.bin"]
    placed = [item for item in document["placement"]["operators"] if item["subgraph"]]
    assert placed
    for item in placed:
        marks = [line for line in listing.splitlines() if f'"{item["subgraph"]}"  ; from ' in line]
        assert marks
        assert all(f"{item['op_type']} {item['node']}" in line for line in marks)


def test_a_program_file_is_inspected_alone(cli: Cli, package_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "program.bin"
    path.write_bytes(read_package(package_file).files["program.bin"])
    assert cli("inspect", path, "--format", "json").document["programs"]["program.bin"]["engine"] == "ne-64"
    assert cli("inspect", path, "--placement").code == 2
    path.write_bytes(path.read_bytes()[:-1])
    ran = cli("inspect", path)
    assert ran.code == 2
    assert "truncated" in ran.err


@pytest.mark.slow
def test_an_onnx_file_is_calibrated_with_a_folder_of_arrays(cli: Cli, tmp_path: Path) -> None:
    onnx, folder = tmp_path / "net.onnx", tmp_path / "data"
    onnx.write_bytes(model_bytes(float_model(EveryOperator)))
    folder.mkdir()
    samples = np.random.default_rng(0).standard_normal((4, *EveryOperator.shape), np.float32)
    for number, sample in enumerate(samples):
        np.save(folder / f"{number}.npy", sample)
    ran = cli("export", onnx, "-t", "ne-64", "-c", folder, "-o", tmp_path / "n.lanefit", "-b", "latency=1ns")
    assert ran.code == 1
    assert ran.out.startswith("FAIL")
    assert (tmp_path / "n.lanefit").exists()
