"""QDQ models with int16 maps, as ONNX Runtime's quantiser makes them, run as int8x16."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_examples import EveryOperator, float_model
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

from lanefit.common.errors import UnsupportedError
from lanefit.export.importer import import_model
from lanefit.export.onnx_export import to_onnx
from lanefit.export.onnx_model import copy_of
from lanefit.export.pipeline import build, export_model
from lanefit.export.precision import Precision
from lanefit.targets.spec import load_spec

SPEC = load_spec("ne-64")


class Functions(nn.Module):
    """Tables, products, a softmax, a difference, and moves."""

    shape = (1, 4, 10, 10)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(4, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        y = torch.sigmoid(y) * y
        a, b = y[:, :4], y[:, 4:]
        y = torch.cat([a - b, nn.functional.gelu(a)], 1)
        y = nn.functional.interpolate(y, scale_factor=2, mode="bilinear")
        return torch.softmax(self.head(y.mean((2, 3))), 1)


def int16_model(model: ModelProto, shape: tuple[int, ...], folder: Path) -> Path:
    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.rest = iter([{"input": rng.standard_normal(shape).astype(np.float32)} for _ in range(8)])

        def get_next(self) -> dict:
            return next(self.rest, {})

    model = copy_of(model)
    model.opset_import[0].version = max(21, model.opset_import[0].version)  # the first with int16
    path, quantised = folder / "float.onnx", folder / "int16.onnx"
    onnx.save(model, path)
    types = {"activation_type": QuantType.QInt16, "weight_type": QuantType.QInt8}
    extra = {"ActivationSymmetric": True, "WeightSymmetric": True}
    quantize_static(
        path, quantised, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, extra_options=extra, **types
    )
    return quantised


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return int16_model(float_model(EveryOperator), EveryOperator.shape, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = to_onnx(Functions().eval(), Functions.shape)
    return int16_model(model, Functions.shape, tmp_path_factory.mktemp("functions"))


@pytest.mark.parametrize("name", ["plain", "functions"])
def test_an_int16_model_is_exported_as_int8x16_and_verified(name: str, request: pytest.FixtureRequest) -> None:
    result = export_model(request.getfixturevalue(name), SPEC)
    assert {row.precision for item in result.built.compiled for row in item.report} == {"int8x16"}
    assert {p.op_type for p in result.placements if p.where == "cpu"} == {"QuantizeLinear", "DequantizeLinear"}
    assert result.verify.passed
    assert result.verify.stage("device").max_error == 0


def test_it_may_become_bf16_but_not_int8(plain: Path) -> None:
    model = onnx.load(plain)
    built = build(model, SPEC, precision=Precision("bf16"))
    assert {"bf16", "int8x16 to bf16", "bf16 to int8x16"} == {r.precision for c in built.compiled for r in c.report}
    name = next(node.source[0] for node in built.imported.regions[0].graph.nodes if node.source)
    with pytest.raises(UnsupportedError, match=r"int16 maps here[\s\S]*stay int8x16"):
        build(model, SPEC, precision=Precision("bf16", ((name, "int8"),)))


def test_a_zero_point_of_int16_maps_is_refused_with_its_tensor(plain: Path) -> None:
    model = onnx.load(plain)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT16 and tensor.name.startswith("input"):
            tensor.CopyFrom(numpy_helper.from_array(np.int16(3), tensor.name))
    refused = {p.rule for p in import_model(model).placements if p.where == "cpu"}
    assert "quantised-input" in refused


def test_an_operator_between_int8_and_int16_is_refused_by_type() -> None:
    scale, zeros = numpy_helper.from_array(np.float32(0.1), "s"), {
        "z8": numpy_helper.from_array(np.int8(0), "z8"), "z16": numpy_helper.from_array(np.int16(0), "z16"),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z8"], ["real"]),
        helper.make_node("AveragePool", ["real"], ["pooled"], kernel_shape=[2, 2]),
        helper.make_node("QuantizeLinear", ["pooled", "s", "z16"], ["y"]),
        helper.make_node("DequantizeLinear", ["y", "s", "z16"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes, "mixed", [helper.make_tensor_value_info("x", TensorProto.INT8, (1, 4, 6, 6))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, 4, 5, 5))], [scale, *zeros.values()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (pool,) = (p for p in import_model(model).placements if p.op_type == "AveragePool")
    assert (pool.rule, pool.value) == ("kernel-limits", "int8 maps make one of int16")
