"""From a module or an ONNX file to a verified package that runs."""

import functools
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from export_examples import EveryOperator, Mixed, QdqGraph, float_model, int8_model, seeded
from sklearn.datasets import load_digits
from torch import nn

from lanefit.common.budget import Budget
from lanefit.common.errors import (
    InputError,
    ModelError,
    PackageError,
    ToolchainError,
    UnsupportedError,
    VerificationError,
)
from lanefit.common.files import sha256
from lanefit.export.compiler import Compiled, compile_graph
from lanefit.export.contents import placement_table
from lanefit.export.engines import reference_engine
from lanefit.export.graph import Graph
from lanefit.export.onnx_model import GraphIndex, copy_of, model_bytes
from lanefit.export.package import HOST, Package, package_bytes, read_package, write_package
from lanefit.export.pipeline import Built, ExportResult, build, export_model, quantised
from lanefit.export.quantise import random_calibration
from lanefit.export.run import run_package
from lanefit.export.split_run import SplitModel, run_samples, session
from lanefit.export.verify import Tolerance
from lanefit.targets.spec import EngineSpec, load_spec

SPEC = load_spec("ne-64")


@functools.cache
def _mixed() -> ExportResult:
    return export_model(seeded(Mixed), SPEC, random_calibration(Mixed.shape, 32), budget=Budget(latency_us=1e6))


def _inputs(kind: type, count: int = 8) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(9).standard_normal((count, *kind.shape[1:]), np.float32)}


class Digits(nn.Module):
    """A small residual network for 8×8 digits."""

    def __init__(self) -> None:
        super().__init__()

        def conv(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups), nn.BatchNorm2d(b), nn.ReLU6()
            )

        self.stem, self.down = conv(1, 12, 3), conv(12, 24, 3, 2)
        self.block = nn.Sequential(conv(24, 48, 1), conv(48, 48, 3, groups=48), nn.Conv2d(48, 24, 1))
        self.head = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.stem(x))
        return self.head((x + self.block(x)).mean((2, 3)))


def _trained_digits() -> tuple[nn.Module, np.ndarray, np.ndarray, np.ndarray]:
    """A network after three epochs on 1437 digits, with its training images and the 360 held-out ones."""
    digits = load_digits()
    images = (digits.images[:, None] / 8 - 1).astype(np.float32)
    x, y = torch.from_numpy(images[:1437]), torch.from_numpy(digits.target[:1437])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Digits()
        optimiser = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(3):
            for batch in torch.randperm(1437).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
                optimiser.step()
    return net.eval(), images[:1437], images[1437:], digits.target[1437:]


def test_a_trained_network_classifies_on_the_device_as_onnx_runtime_does() -> None:
    net, train, test, labels = _trained_digits()
    models = quantised(net, [train[:128]])
    built = build(models.int8, SPEC)
    device = built.run_device({"input": test})["output"]
    runtime = run_samples(session(built.imported.model), {"input": test})["output"]
    split = SplitModel(built.imported.host, GraphIndex(built.imported.model).types)
    reference = split(reference_engine(built.imported.regions), {"input": test})["output"]
    np.testing.assert_array_equal(device, reference)
    assert (device.argmax(1) == runtime.argmax(1)).mean() >= 0.99
    assert (device.argmax(1) == labels).mean() > 0.85


def test_a_package_runs_after_reading_and_gives_what_the_device_gave(tmp_path: Path) -> None:
    path = tmp_path / "mixed.lanefit"
    write_package(path, _mixed().package)
    got = run_package(read_package(path), _inputs(Mixed))["output"]
    np.testing.assert_allclose(got, _mixed().built.run_device(_inputs(Mixed))["output"], rtol=1e-5)
    assert [stage.stage for stage in _mixed().verify.stages] == [
        "float32",
        "onnx",
        "int8",
        "reference",
        "device",
        "host",
    ]


def test_two_regions_around_a_refused_operator_agree_with_onnx_runtime() -> None:
    built = _mixed().built
    assert len(built.compiled) == 2
    expected = run_samples(session(built.imported.model), _inputs(Mixed, 64))["output"]
    got = built.run_device(_inputs(Mixed, 64))["output"]
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.99


def test_the_placement_table_accounts_for_every_operator_and_every_cycle() -> None:
    built = _mixed().built
    table = placement_table(built)
    assert [row["node"] for row in table["operators"]] == [node.name for node in built.imported.model.graph.node]
    assert all((row["schedule"] is None) == (row["where"] == "engine") for row in table["operators"])
    refused = {row["node"]: row["sentence"] for row in table["operators"] if row["rule"] == "operator"}
    assert set(refused) == {"LogSoftmax"}
    assert all("engine executes" in text for text in refused.values())
    own = sum(row["cycles"] - row["hidden_cycles"] for row in table["subgraphs"])
    assert own == pytest.approx(built.cycles)
    placed = {row["node"]: (row["region"], row["subgraph"]) for row in table["operators"]}
    assert placed["first"] == (0, "first")
    assert placed["classify"][0] == 1


def test_the_manifest_tells_shapes_scales_figures_and_toolchain() -> None:
    manifest = _mixed().package.manifest
    assert manifest.inputs[0].shape == Mixed.shape
    assert manifest.inputs[0].scale is not None
    assert manifest.outputs[0].zero_point is not None
    assert manifest.figures["engine_regions"] == 2
    assert manifest.figures["cpu_operators"] == 1
    assert manifest.verdict is not None
    assert {"onnx", "onnxruntime", "apache-tvm"} <= set(manifest.toolchain)


def test_exporting_again_gives_the_same_package_under_another_hash_seed() -> None:
    code = """
import sys; sys.path.insert(0, 'tests')
from export_examples import Mixed, seeded
from lanefit.common.budget import Budget
from lanefit.common.files import sha256
from lanefit.export.package import package_bytes
from lanefit.export.pipeline import export_model
from lanefit.export.quantise import random_calibration
from lanefit.targets.spec import load_spec
data, budget = random_calibration(Mixed.shape, 32), Budget(latency_us=1e6)
print(sha256(package_bytes(export_model(seeded(Mixed), load_spec("ne-64"), data, budget=budget).package)))
"""
    environment = {"PYTHONHASHSEED": "3", "PATH": "/usr/bin:/bin"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert run.stdout.strip() == sha256(package_bytes(_mixed().package))


def test_a_program_from_a_package_runs_without_the_compiler(tmp_path: Path) -> None:
    path = tmp_path / "mixed.lanefit"
    write_package(path, _mixed().package)
    code = """
import sys
from pathlib import Path
import numpy as np
from lanefit.export.package import read_package
from lanefit.targets.emulator import Emulator
program = read_package(Path(sys.argv[1])).programs()[0]
Emulator(program).run({p.name: np.zeros((2, *p.shape), np.int8) for p in program.inputs})
assert not {"lanefit.export.compiler", "lanefit.export.lower", "onnx", "torch", "tvm"} & set(sys.modules), sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_a_float_onnx_file_needs_calibration_data(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model_bytes(float_model(Mixed)))
    with pytest.raises(ModelError, match="give calibration data"):
        quantised(path)
    assert quantised(path, random_calibration(Mixed.shape)).real is not None


def test_a_quantised_onnx_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model_bytes(int8_model(EveryOperator)))
    result = export_model(path, SPEC)
    assert [stage.stage for stage in result.verify.stages] == ["reference", "device", "host"]
    assert result.package.manifest.name == "net"


def test_a_network_that_the_engine_refuses_wholly_runs_on_the_cpu() -> None:
    graph = QdqGraph((1, 4))
    result = export_model(graph.model(graph.op("Sin", "s", [graph.pair("input", "x", 0.03, 5)])), SPEC)
    assert result.built.compiled == ()
    assert result.latency_us == 0
    x = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(run_package(result.package, {"input": x})["s.out"], np.sin(x), atol=0.02)


def _without(names: set[str]) -> object:
    def compile_with(graph: Graph, spec: EngineSpec) -> Compiled:
        for node in graph.nodes:
            if node.name in names:
                raise UnsupportedError("no tile fits", where=f"node 'other+{node.name}'")
        return compile_graph(graph, spec)

    return compile_with


def test_operators_without_a_tiling_move_to_the_cpu_and_the_rest_stays() -> None:
    built = build(int8_model(EveryOperator), SPEC, compile_with=_without({"head", "MaxPool"}))  # pyright: ignore
    tiled = {p.node: p.value for p in built.placements if p.rule == "tiling"}
    assert tiled == {"head": "no tile fits", "MaxPool": "no tile fits"}
    x = _inputs(EveryOperator, 32)
    got, expected = built.run_device(x)["output"], run_samples(session(built.imported.model, exact=True), x)["output"]
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.96


@pytest.mark.parametrize("name", ["model/a+b", "it's", 'the "first"', 'it\'s the "first"', "a\\b", "+"])
def test_an_operator_moves_to_the_cpu_whatever_it_is_called(name: str) -> None:
    model = copy_of(int8_model(EveryOperator))
    next(node for node in model.graph.node if node.name == "head").name = name

    def compile_with(graph: Graph, spec: EngineSpec) -> Compiled:
        for first, second in pairwise(graph.nodes):
            if second.name == name:
                raise UnsupportedError("no tile fits", where=f"node {f'{first.name}+{name}'!r}")
        return compile_graph(graph, spec)

    tiled = {p.node for p in build(model, SPEC, compile_with=compile_with).placements if p.rule == "tiling"}
    assert name in tiled


def test_a_compiler_error_that_names_no_node_is_passed_on() -> None:
    def compile_with(graph: Graph, spec: EngineSpec) -> Compiled:
        raise UnsupportedError("the engine is too small", where="engine 'x'")

    with pytest.raises(UnsupportedError, match="too small"):
        build(int8_model(Mixed), SPEC, compile_with=compile_with)


def test_a_failed_verification_gives_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("lanefit.export.verify", fromlist=["x"]).TOLERANCES, "onnx", Tolerance(atol=-1.0))
    with pytest.raises(VerificationError, match="onnx differs from float32"):
        export_model(seeded(Mixed), SPEC, random_calibration(Mixed.shape, 4))


@pytest.mark.parametrize(
    "inputs",
    [{}, {"input": np.zeros((1, 1, 8, 8))}, {"input": np.zeros((1, 1, 9, 8), np.float32)}],
    ids=["absent", "float64", "shape"],
)
def test_wrong_inputs_of_a_package_are_refused(inputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match="'input'"):
        run_package(_mixed().package, inputs)


def test_a_package_without_host_library_does_not_run() -> None:
    package = _mixed().package
    with pytest.raises(PackageError, match="no host library"):
        run_package(Package(package.manifest, {k: v for k, v in package.files.items() if k != HOST}), _inputs(Mixed))


def test_a_package_for_another_machine_is_refused_before_its_code_is_loaded() -> None:
    manifest = _mixed().package.manifest.model_copy(update={"host": {"triple": "riscv64-linux-gnu", "cpu": "generic"}})
    with pytest.raises(ToolchainError, match="is for riscv64-linux-gnu"):
        run_package(Package(manifest, _mixed().package.files), _inputs(Mixed))


def test_sizes_of_a_built_network_add_up() -> None:
    built: Built = _mixed().built
    assert built.sram_bytes == max(item.sram_bytes for item in built.compiled)
    assert built.latency_us == pytest.approx(built.cycles / SPEC.clock_mhz)
    assert built.macs == sum(region.graph.macs for region in built.imported.regions)
