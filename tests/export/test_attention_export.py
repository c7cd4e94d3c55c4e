"""Networks with cuboid attention among other operators go the whole way from ONNX file to package."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn

from lanefit.common.errors import ModelError
from lanefit.export.attention import METADATA, stored_ranges
from lanefit.export.engines import emulator_engine, reference_engine
from lanefit.export.onnx_export import to_onnx
from lanefit.export.onnx_model import GraphIndex, copy_of
from lanefit.export.package import PLACEMENT
from lanefit.export.pipeline import Built, build, export_model, quantised
from lanefit.export.precision import Precision
from lanefit.export.split_run import SplitModel, run_samples, session
from lanefit.kernels.cuboid_definition import CuboidSelfAttention
from lanefit.kernels.cuboid_op import CuboidAttention
from lanefit.targets.spec import load_spec

_SHAPE = (1, 3, 8, 6)
_FRAMES, _CHANNELS = 4, 16


class Network(nn.Module):
    """A convolution that makes frames, and two axial layers with residuals around them."""

    def __init__(self, vectors: int = 0, separate: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        options: dict[str, Any] = {"use_global_vector": True, "use_global_self_attn": True} if vectors else {}
        options |= {"separate_global_qkv": True} if separate else {}
        self.conv = nn.Conv2d(3, _FRAMES * _CHANNELS, 3, padding=1)
        self.time, self.height = (
            CuboidSelfAttention(_CHANNELS, 4, size, padding_type="zeros", **options)
            for size in ((_FRAMES, 1, 1), (1, 8, 1))
        )
        self.vectors = nn.Parameter(torch.randn(1, vectors, _CHANNELS)) if vectors else None

    def forward(self, x: Tensor) -> Tensor:
        frames = torch.relu(self.conv(x)).reshape(1, _FRAMES, _CHANNELS, 8, 6)
        x = frames.permute(0, 1, 3, 4, 2)
        if self.vectors is None:
            x = x + self.time(x)
            return x + self.height(x)
        g = self.vectors + x.mean((1, 2, 3))[:, None]
        y, update = self.time(x, g)
        x, g = x + y, g + update
        y, update = self.height(x, g)
        return x + y + (g + update).mean(1)[:, None, None, None]


def samples(count: int = 4) -> list[np.ndarray]:
    return [np.random.default_rng(n).standard_normal(_SHAPE).astype(np.float32) for n in range(count)]


@cache
def real_model(vectors: int, separate: bool = False) -> ModelProto:
    return to_onnx(Network(vectors, separate).eval(), _SHAPE)


@cache
def int8_model(vectors: int, separate: bool = False) -> ModelProto:
    return quantised(real_model(vectors, separate), samples()).int8


def attention_ops(built: Built) -> list[CuboidAttention]:
    nodes = (node for region in built.imported.regions for node in region.graph.nodes)
    return [node.op for node in nodes if isinstance(node.op, CuboidAttention)]


@pytest.mark.parametrize(("vectors", "separate"), [(0, False), (3, False), (3, True)])
def test_both_layers_run_on_the_engine_as_the_reference_says(vectors: int, separate: bool) -> None:
    built = build(int8_model(vectors, separate), load_spec("ne-256"))
    assert all(op.separate == separate for op in attention_ops(built))
    assert [op.cuboid for op in attention_ops(built)] == [(4, 1, 1), (1, 8, 1)]
    assert all(op.global_vectors == vectors for op in attention_ops(built))
    split = SplitModel(built.imported.host, GraphIndex(built.imported.model).types)
    feeds = {"input": np.concatenate(samples(2))}
    engines = reference_engine(built.imported.regions), emulator_engine([c.program for c in built.compiled])
    expected, found = (split(engine, feeds) for engine in engines)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    exact = run_samples(session(real_model(vectors, separate)), feeds)["output"]
    assert np.square(found["output"] - exact).mean() < 0.005 * np.square(exact).mean()


def test_precision_chooses_bf16_for_a_layer() -> None:
    precision = Precision("int8", (("time.Softmax", "bf16"),))
    built = build(int8_model(0), load_spec("ne-256"), precision=precision)
    assert [op.dtype for op in attention_ops(built)] == ["bf16", "int8"]
    split = SplitModel(built.imported.host, GraphIndex(built.imported.model).types)
    feeds = {"input": np.concatenate(samples(2))}
    engines = reference_engine(built.imported.regions), emulator_engine([c.program for c in built.compiled])
    expected, found = (split(engine, feeds)["output"] for engine in engines)
    np.testing.assert_array_equal(found, expected)
    exact = run_samples(session(real_model(0)), feeds)["output"]
    assert np.square(found - exact).mean() < 0.005 * np.square(exact).mean()


def test_the_placement_names_the_rule_and_the_layer() -> None:
    built = build(int8_model(0), load_spec("ne-256"))
    inside = [p for p in built.placements if p.rule == "cuboid-attention"]
    assert {p.value for p in inside} == {"time.Softmax", "height.Softmax"}
    assert {"LayerNormalization", "MatMul", "Softmax", "QuantizeLinear"} <= {p.op_type for p in inside}
    assert all(p.where == "engine" and "projection" in p.sentence for p in inside)


def test_a_package_with_attention_is_verified_and_says_where_it_runs() -> None:
    result = export_model(real_model(0), load_spec("ne-256"), samples())
    assert result.verify.passed
    assert result.verify.stage("device").max_error == 0
    operators = json.loads(result.package.files[PLACEMENT])["operators"]
    inside = [row for row in operators if row["rule"] == "cuboid-attention"]
    assert {row["region"] for row in inside} <= set(range(len(result.built.compiled)))
    assert {row["op_type"] for row in inside} >= {"LayerNormalization", "Softmax"}


def without_ranges(model: ModelProto) -> ModelProto:
    bare = copy_of(model)
    del bare.metadata_props[:]
    return bare


def damaged(text: str) -> Callable[[ModelProto], ModelProto]:
    def change(model: ModelProto) -> ModelProto:
        model = copy_of(model)
        next(entry for entry in model.metadata_props if entry.key.startswith(METADATA)).value = text
        return model

    return change


def test_a_model_without_ranges_keeps_attention_on_the_cpu_and_says_why() -> None:
    built = build(without_ranges(int8_model(0)), load_spec("ne-256"))
    assert not attention_ops(built)
    refused = {p.node: p for p in built.placements}["time.Softmax"]
    assert (refused.where, refused.rule) == ("cpu", "attention-ranges")
    assert "ranges of its intermediates" in refused.sentence


@pytest.mark.parametrize("text", ["{", "[]", '{"vectors": 0, "spans": {}}', '{"vectors": -1, "spans": {}}'])
def test_damaged_ranges_are_a_typed_error(text: str) -> None:
    with pytest.raises(ModelError, match=r"ranges|global vectors"):
        stored_ranges(damaged(text)(int8_model(0)))


def test_an_engine_without_room_leaves_attention_to_the_cpu() -> None:
    tight = replace(load_spec("ne-256"), name="tight", sram_bytes=4096)
    built = build(int8_model(0), tight)
    assert not attention_ops(built)
    refused = [p for p in built.placements if p.op_type == "Softmax"]
    assert [p.rule for p in refused] == ["tiling", "tiling"]
    assert all("bytes of SRAM" in (p.value or "") for p in refused)


def test_a_matched_layer_that_others_look_into_stays_on_the_cpu() -> None:
    model = copy_of(int8_model(0))
    norm = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    shape = [1, _FRAMES, 8, 6, _CHANNELS]
    model.graph.output.append(helper.make_tensor_value_info(norm.output[0], TensorProto.FLOAT, shape))
    refused = {p.node: p for p in build(model, load_spec("ne-256")).placements}["time.Softmax"]
    assert (refused.where, refused.rule, refused.value) == ("cpu", "attention-inside", norm.output[0])
