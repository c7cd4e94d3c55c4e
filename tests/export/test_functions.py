"""Functions of the vector unit from ONNX: QDQ operators, patterns and whole networks land on the engine and mean the
same as in ONNX Runtime, give or take one rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from export_examples import QdqGraph
from onnx import ModelProto
from torch import nn

from lanefit.export.engines import reference_engine
from lanefit.export.importer import Imported, import_model
from lanefit.export.onnx_export import to_onnx
from lanefit.export.onnx_model import GraphIndex
from lanefit.export.patterns import Normalisation, Unary, patterns
from lanefit.export.quantise import quantise, random_calibration
from lanefit.export.split_run import SplitModel, run_samples, session
from lanefit.export.stages import output_steps
from lanefit.kernels.function_ops import Mul, Norm, Reduce, Resize, Softmax, Table
from lanefit.kernels.movement_ops import Movement
from lanefit.kernels.ops import Add, Op, Pool2d, Requantise

MAP = (1, 6, 5, 7)
AXES = np.array([1])


def _compared(model: ModelProto, shape: tuple[int, ...]) -> tuple[Imported, float]:
    """The import, and the largest difference between its integer meaning and ONNX Runtime, in output steps."""
    imported = import_model(model)
    x = np.random.default_rng(1).standard_normal((6, *shape[1:]), np.float32) * 2
    got = SplitModel(imported.host, GraphIndex(imported.model).types)(reference_engine(imported.regions), {"input": x})
    expected = run_samples(session(imported.model, exact=True), {"input": x})
    steps = output_steps(imported.model)
    return imported, max(float(np.abs(got[n] - expected[n]).max()) / steps[n] for n in expected)


def _ops(imported: Imported) -> list[Op | Movement]:
    assert {p.op_type for p in imported.placements if p.where == "cpu"} <= {"QuantizeLinear", "DequantizeLinear"}
    return [node.op for region in imported.regions for node in region.graph.nodes]


def _one(op_type: str, *extra: np.ndarray, shape: tuple[int, ...] = MAP, **attributes: Any) -> ModelProto:
    graph = QdqGraph(shape, opset=20 if op_type == "Gelu" else 18)
    more = [graph.constant(f"extra{i}", value) for i, value in enumerate(extra)]
    y = graph.op(op_type, "it", [graph.pair("input", "x", 0.03, 5), *more], **attributes)
    return graph.model(graph.pair(y, "y", 0.02, -7))


def _resize(scales: tuple[float, float] = (2, 3), **attributes: Any) -> ModelProto:
    return _one("Resize", np.zeros(0, np.float32), np.array([1, 1, *scales], np.float32), **attributes)


SINGLE: dict[str, tuple[ModelProto, type]] = {
    **{
        name: (_one(name), Table)
        for name in ("Sigmoid", "Tanh", "HardSwish", "Erf", "Softplus", "Elu", "Exp", "Gelu", "Abs", "LeakyRelu")
    },
    "power": (_one("Pow", np.array(3, np.float32)), Table),
    "shift": (_one("Add", np.array([0.7], np.float32)), Table),
    "softmax-map": (_one("Softmax", axis=1), Softmax),
    "softmax-vector": (_one("Softmax", shape=(1, 40)), Softmax),
    "layer-norm": (
        _one("LayerNormalization", np.linspace(-1, 2, 12, dtype=np.float32), np.ones(12, np.float32), shape=(1, 12)),
        Norm,
    ),
    "instance-norm": (
        _one("InstanceNormalization", np.linspace(0.2, 2, 6, dtype=np.float32), np.zeros(6, np.float32)),
        Norm,
    ),
    "mean-of-channels": (_one("ReduceMean", AXES), Reduce),
    "sum-of-channels": (_one("ReduceSum", AXES), Reduce),
    "maximum-of-channels": (_one("ReduceMax", AXES), Reduce),
    "maximum-of-map": (_one("ReduceMax", np.array([2, 3])), Pool2d),
    "mean-of-vector": (_one("ReduceMean", AXES, shape=(1, 33)), Reduce),
    "linear": (_resize(mode="linear"), Resize),
    "linear-asymmetric": (_resize(mode="linear", coordinate_transformation_mode="asymmetric"), Resize),
    "linear-corners": (_resize(mode="linear", coordinate_transformation_mode="align_corners"), Resize),
    "linear-shrink": (_resize(mode="linear", scales=(0.6, 0.5)), Resize),
    **{
        f"nearest-{rounding}-{how}": (
            _resize(mode="nearest", nearest_mode=rounding, coordinate_transformation_mode=how, scales=(2, 1.5)),
            Resize,
        )
        for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        for how in ("half_pixel", "asymmetric", "pytorch_half_pixel")
    },
}


@pytest.mark.parametrize("case", SINGLE)
def test_an_operator_between_quantised_tensors_agrees_with_onnx_runtime(case: str) -> None:
    model, kind = SINGLE[case]
    shape = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    imported, steps = _compared(model, shape)
    first, *others = (type(op) for op in _ops(imported))
    assert first is kind
    assert others == ([Requantise] if case == "maximum-of-map" else [])
    assert steps <= 1.001


@pytest.mark.parametrize("swapped", [False, True])
def test_a_gate_scales_whole_channels_whatever_the_order_of_the_factors(swapped: bool) -> None:
    graph = QdqGraph(MAP)
    x = graph.pair("input", "x", 0.03, 5)
    gate = graph.pair(graph.op("ReduceMax", "max", [x, graph.constant("axes", np.array([2, 3]))]), "g", 0.02, 9)
    y = graph.op("Mul", "it", [gate, x] if swapped else [x, gate])
    imported, steps = _compared(graph.model(graph.pair(y, "y", 0.06, -7)), MAP)
    assert Mul((5, 7, 6), gate=True) in _ops(imported)
    assert steps <= 1.001


def test_a_tensor_may_be_multiplied_with_itself_or_its_own_function() -> None:
    graph = QdqGraph(MAP)
    x = graph.pair("input", "x", 0.03, 5)
    silu = graph.op("Mul", "silu", [x, graph.op("Sigmoid", "sigmoid", [x])])
    square = graph.op("Mul", "square", [graph.pair(silu, "s", 0.02, -100)] * 2)
    imported, steps = _compared(graph.model(graph.pair(square, "y", 0.06, -128)), MAP)
    assert [type(op) for op in _ops(imported)] == [Table, Table]
    assert steps <= 1.001


@pytest.mark.parametrize("zero_point", [-128, 0, 127])
def test_a_difference_is_exact_up_to_its_rounding(zero_point: int) -> None:
    graph = QdqGraph(MAP)
    x = graph.pair("input", "x", 0.03, 5)
    other = graph.pair(graph.op("Tanh", "tanh", [x]), "t", 0.01, zero_point)
    y = graph.op("Sub", "it", [x, other])
    imported, steps = _compared(graph.model(graph.pair(y, "y", 0.04, -7)), MAP)
    assert [type(op) for op in _ops(imported)] == [Table, Table, Add]
    assert steps <= 1.001


class _Modern(nn.Module):
    """Group norm, SiLU, both GELUs, squeeze and excite, resizes, layer norm and softmax."""

    shape = (1, 3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.last, self.classify = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.norm(self.stem(x)))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = nn.functional.gelu(x * gate)
        x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
        x = nn.functional.hardswish(nn.functional.interpolate(x, scale_factor=2))
        x = nn.functional.gelu(self.last(x.mean((2, 3))), approximate="tanh")
        return torch.softmax(self.classify(x), -1)


def _modern() -> ModelProto:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = _Modern().eval()
        nn.init.normal_(module.norm.weight)
        nn.init.normal_(module.norm.bias)
    return to_onnx(module, _Modern.shape)


def test_a_modern_network_runs_wholly_on_the_engine() -> None:
    real = _modern()
    model = quantise(real, random_calibration(_Modern.shape, 16))
    imported, _ = _compared(model, _Modern.shape)
    kinds = [type(op) for op in _ops(imported)]
    assert {kind: kinds.count(kind) for kind in (Norm, Table, Mul, Resize, Softmax)} == {
        Norm: 2, Table: 5, Mul: 1, Resize: 2, Softmax: 1,
    }  # fmt: skip
    x = np.random.default_rng(5).standard_normal((16, *_Modern.shape[1:]), np.float32)
    expected = run_samples(session(real), {"input": x})["output"]
    split = SplitModel(imported.host, GraphIndex(imported.model).types)
    got = split(reference_engine(imported.regions), {"input": x})["output"]
    assert np.abs(got - expected).max() < 0.05


def test_patterns_of_a_float_model_are_the_largest_and_share_nothing() -> None:
    found = patterns(GraphIndex(_with_shapes(_modern())))
    names = [[node.op_type for node in pattern.nodes] for pattern in found]
    assert ["Sigmoid", "Mul"] in names
    assert ["Div", "Erf", "Add", "Mul", "Mul"] in names
    assert ["Reshape", "InstanceNormalization", "Reshape", "Mul", "Add"] in names
    members = [node.output[0] for pattern in found for node in pattern.nodes]
    assert len(members) == len(set(members))
    assert {type(pattern) for pattern in found} == {Unary, Normalisation}


def _with_shapes(model: ModelProto) -> ModelProto:
    from lanefit.export.onnx_model import with_static_shapes

    return with_static_shapes(model)


def test_a_result_inside_that_someone_else_needs_is_no_inside() -> None:
    graph = QdqGraph(MAP)
    gate = graph.op("Sigmoid", "gate", ["input"])
    y = graph.op("Mul", "silu", ["input", gate])
    model = graph.model(graph.op("Softmax", "both", [graph.op("Concat", "joined", [y, gate], axis=1)], axis=1))
    found = patterns(GraphIndex(model))
    assert [[node.name for node in pattern.nodes] for pattern in found] == [["gate"]]
