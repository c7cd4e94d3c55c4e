"""The host module: quiet, reproducible, and the same network as ONNX Runtime runs."""

import functools
from pathlib import Path

import numpy as np
import pytest
from export_examples import Mixed, QdqGraph, int8_model

from lanefit.common.errors import InputError, ToolchainError
from lanefit.export.engines import reference_engine
from lanefit.export.host import HostModule, HostTarget, build_host, host_names
from lanefit.export.importer import Imported, import_model
from lanefit.export.onnx_model import GraphIndex
from lanefit.export.split_run import SplitModel


@functools.cache
def _mixed() -> tuple[Imported, bytes]:
    imported = import_model(int8_model(Mixed))
    return imported, build_host(imported.host, imported.regions)


def _inputs(count: int = 4) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(3).standard_normal((count, *Mixed.shape[1:]), np.float32)}


def _load(folder: Path) -> HostModule:
    imported, library = _mixed()
    path = folder / "host.so"
    path.write_bytes(library)
    return HostModule(path, reference_engine(imported.regions), host_names(imported.host, imported.regions))


def test_the_host_module_runs_both_regions_and_the_cpu_part_between(tmp_path: Path) -> None:
    imported, _ = _mixed()
    split = SplitModel(imported.host, GraphIndex(imported.model).types)
    expected = split(reference_engine(imported.regions), _inputs())
    np.testing.assert_allclose(_load(tmp_path)(_inputs())["output"], expected["output"], rtol=1e-6)


def test_building_and_running_write_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    imported, _ = _mixed()
    build_host(imported.host, imported.regions)
    _load(tmp_path)(_inputs(1))
    assert capfd.readouterr() == ("", "")


def test_regions_with_several_outputs_and_clips_are_called_correctly(tmp_path: Path) -> None:
    graph = QdqGraph((1, 2, 3, 3))
    x = graph.pair("input", "x", 0.03, 0)
    first = graph.pair(graph.op("Relu", "relu", [x]), "a", 0.02, -128)
    second = graph.pair(graph.op("Add", "add", [x, first]), "b", 0.05, 0)
    bounds = [graph.constant("low", np.array(0.1, np.float32)), graph.constant("high", np.array(0.9, np.float32))]
    clipped = [
        graph.op("Clip", f"clip{i}", [graph.op("Sigmoid", f"s{i}", [v]), *bounds])
        for i, v in enumerate((first, second))
    ]
    model = graph.model(graph.op("Mul", "mul", clipped))
    imported = import_model(model)
    assert [len(region.outputs) for region in imported.regions] == [2]
    path = tmp_path / "host.so"
    path.write_bytes(build_host(imported.host, imported.regions))
    engine = reference_engine(imported.regions)
    sample = {"input": np.random.default_rng(0).standard_normal((2, 2, 3, 3), np.float32)}
    got = HostModule(path, engine, host_names(imported.host, imported.regions))(sample)
    expected = SplitModel(imported.host, GraphIndex(imported.model).types)(engine, sample)
    np.testing.assert_allclose(got["mul.out"], expected["mul.out"], rtol=1e-5)


def test_an_error_of_the_engine_comes_out_as_it_is(tmp_path: Path) -> None:
    imported, library = _mixed()
    path = tmp_path / "host.so"
    path.write_bytes(library)

    def broken(number: int, inputs: object) -> dict[str, np.ndarray]:
        raise InputError(f"region {number} refused")

    with pytest.raises(InputError, match="region 0 refused"):
        HostModule(path, broken, host_names(imported.host, imported.regions))(_inputs(1))


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no value for input 'input'"):
        _load(tmp_path)({})


def test_a_library_that_is_none_is_a_toolchain_error(tmp_path: Path) -> None:
    imported, _ = _mixed()
    path = tmp_path / "host.so"
    path.write_bytes(b"not an ELF file")
    with pytest.raises(ToolchainError, match="does not load"):
        HostModule(path, reference_engine(imported.regions), host_names(imported.host, imported.regions))


def test_an_operator_that_tvm_lacks_is_a_toolchain_error() -> None:
    graph = QdqGraph((1, 2, 3, 3))
    y = graph.op("LpNormalization", "norm", [graph.pair("input", "x", 0.03, 0)])
    imported = import_model(graph.model(graph.pair(y, "y", 0.02, 0)))
    with pytest.raises(ToolchainError, match="cannot build the host module"):
        build_host(imported.host, imported.regions)


def test_the_target_is_recorded_as_plain_values() -> None:
    assert HostTarget("x86_64-linux-gnu", "x86-64-v3").as_dict() == {"triple": "x86_64-linux-gnu", "cpu": "x86-64-v3"}
