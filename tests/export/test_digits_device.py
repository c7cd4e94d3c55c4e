"""A really trained network on real images: the device gives the reference's bits and ONNX Runtime's classes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lanefit.export.engines import reference_engine
from lanefit.export.onnx_model import GraphIndex
from lanefit.export.package import read_package, write_package
from lanefit.export.pipeline import ExportResult, export_model
from lanefit.export.split_run import SplitModel, run_samples, session
from lanefit.models.architecture import Architecture
from lanefit.models.registry import families, find_task
from lanefit.models.tasks import Split
from lanefit.nas.training import TrainConfig, train
from lanefit.targets.spec import load_spec

pytestmark = pytest.mark.slow
RESOLUTION = 16


@pytest.fixture(scope="module")
def exported() -> ExportResult:
    family, task = families.get("ibn-classifier"), find_task("digits")
    architecture = Architecture.of(family.name, {**family.middle().values, "resolution": RESOLUTION})
    module = family.build(architecture, input_channels=task.channels, classes=task.classes, seed=1)
    train(module, task, TrainConfig(epochs=4, batch_size=32, seed=1))
    images = task.normalise(task.load(Split.TRAIN, RESOLUTION, limit=64).images)
    return export_model(module, load_spec("ne-256"), [images], name="digits")


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    task = find_task("digits")
    images, labels = task.load(Split.TEST, RESOLUTION)
    return task.normalise(images), labels


def test_all_360_held_out_digits_come_out_bit_for_bit(
    exported: ExportResult, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    built = exported.built
    feeds = {exported.package.manifest.inputs[0].name: images}
    device = built.run_device(feeds)
    split = SplitModel(built.imported.host, GraphIndex(built.imported.model).types)
    reference = split(reference_engine(built.imported.regions), feeds)
    assert len(labels) == 360
    for name, value in device.items():
        np.testing.assert_array_equal(value, reference[name])


def test_at_least_99_percent_fall_into_the_class_that_onnx_runtime_gives(
    exported: ExportResult, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    manifest = exported.package.manifest
    feeds = {manifest.inputs[0].name: images}
    name = manifest.outputs[0].name
    device = exported.built.run_device(feeds)[name].reshape(len(labels), -1).argmax(1)
    runtime = run_samples(session(exported.built.imported.model), feeds)[name].reshape(len(labels), -1).argmax(1)
    assert (device == runtime).mean() >= 0.99
    assert (device == labels).mean() >= 0.8


def test_a_fresh_process_runs_the_binary_without_the_compiler(exported: ExportResult, tmp_path: Path) -> None:
    write_package(tmp_path / "digits.lanefit", exported.package)
    program = read_package(tmp_path / "digits.lanefit").files["program.bin"]
    (tmp_path / "program.bin").write_bytes(program)
    code = (
        "import sys, json, numpy as np\n"
        "from pathlib import Path\n"
        "from lanefit.targets.encoding import decode\n"
        "from lanefit.targets.emulator import Emulator\n"
        "program = decode(Path('program.bin').read_bytes())\n"
        "port = program.inputs[0]\n"
        "x = np.random.default_rng(0).integers(-128, 128, (2, *port.shape)).astype(np.int8)\n"
        "y = Emulator(program).run({port.name: x})[program.outputs[0].name]\n"
        "known = ('lanefit.kernels', 'lanefit.export', 'torch', 'tvm', 'onnx')\n"
        "print(json.dumps({'y': y.tolist(), 'loaded': [m for m in sys.modules if m.startswith(known)]}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    graph = exported.built.imported.regions[0].graph
    port = exported.built.compiled[0].program.inputs[0]
    x = np.random.default_rng(0).integers(-128, 128, (2, *port.shape)).astype(np.int8)
    expected = reference_engine(exported.built.imported.regions)(0, {graph.inputs[0]: x})
    assert result["loaded"] == []
    np.testing.assert_array_equal(np.array(result["y"]), expected[graph.outputs[0]])
