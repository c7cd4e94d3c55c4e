"""Cuboid attention is found in ONNX exports of the layer, and only there."""

import re
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper
from torch import Tensor, nn

from lanefit.export.compiler import compile_graph
from lanefit.export.cuboid_graph import attention_op, cuboid_graph
from lanefit.export.cuboid_pattern import CuboidMatch, find_cuboid_attention
from lanefit.export.onnx_export import simplify, to_onnx
from lanefit.export.reference import run_region
from lanefit.kernels import cuboid_definition
from lanefit.kernels.cuboid_definition import CuboidSelfAttention
from lanefit.kernels.cuboid_parameters import attention
from lanefit.kernels.cuboid_quantise import quantise
from lanefit.targets.emulator import Emulator
from lanefit.targets.spec import load_spec

_SHAPE = (1, 3, 4, 6, 16)
_LAYERS: dict[str, dict[str, Any]] = {
    "axial": {"cuboid_size": (3, 1, 1), "padding_type": "zeros"},
    "window": {"cuboid_size": (1, 2, 3), "padding_type": "ignore", "qkv_bias": True},
    "shifted-padded-ignore": {"cuboid_size": (2, 3, 4), "shift_size": (1, 1, 2), "padding_type": "ignore"},
    "shifted-padded-zeros": {"cuboid_size": (2, 3, 4), "shift_size": (1, 1, 2), "padding_type": "zeros"},
    "shifted-stretched": {"cuboid_size": (2, 3, 4), "shift_size": (1, 1, 2), "padding_type": "nearest"},
    "dilated": {"cuboid_size": (2, 2, 2), "strategy": ("d", "l", "d"), "use_relative_pos": False},
    "no-projection": {"cuboid_size": (3, 4, 6), "use_final_proj": False, "qk_scale": 0.3},
}


def layer(seed: int = 0, **options: Any) -> CuboidSelfAttention:
    torch.manual_seed(seed)
    found = CuboidSelfAttention(16, 4, **options).eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_(0, 0.5)
    return found


def assert_equals_onnx_runtime(model: ModelProto, match: CuboidMatch) -> None:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal(_SHAPE).astype(np.float32)
    (y,) = session.run([match.output], {match.input: x})
    np.testing.assert_allclose(attention(match.parameters, x[0].astype(float)).output, np.asarray(y)[0], atol=1e-4)


@pytest.mark.parametrize("options", _LAYERS.values(), ids=_LAYERS)
def test_a_plain_export_of_the_layer_is_recognised(options: dict[str, Any]) -> None:
    model = to_onnx(module := layer(**options), _SHAPE)
    (match,), misses = find_cuboid_attention(model)
    assert not misses
    assert set(match.nodes) == {node.name for node in model.graph.node}
    wanted = module.cuboids((3, 4, 6))
    np.testing.assert_array_equal(match.parameters.cuboids.mask, wanted.mask)
    np.testing.assert_array_equal(match.parameters.cuboids.valid, wanted.valid)
    assert attention_op(match.parameters).heads == 4
    assert_equals_onnx_runtime(model, match)


@pytest.mark.parametrize("name", ["axial", "shifted-padded-ignore"])
def test_a_simplified_export_is_recognised(name: str) -> None:
    model = simplify(to_onnx(layer(**_LAYERS[name]), _SHAPE))
    (match,), _ = find_cuboid_attention(model)
    assert_equals_onnx_runtime(model, match)


def test_a_stretched_layer_by_interpolation_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def resized(x: Tensor, target: tuple[int, int, int]) -> Tensor:
        found = nn.functional.interpolate(x.permute(0, 4, 1, 2, 3), target, mode="nearest")
        return found.permute(0, 2, 3, 4, 1)

    monkeypatch.setattr(cuboid_definition, "_resized", resized)
    model = to_onnx(layer(**_LAYERS["shifted-stretched"]), _SHAPE)
    assert any(node.op_type == "Resize" for node in model.graph.node)
    (match,), misses = find_cuboid_attention(model)
    assert not misses
    assert match.parameters.cuboids.padding == "nearest"
    assert_equals_onnx_runtime(model, match)


class Block(nn.Module):
    """Two attention layers with residuals between other operators."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layer(**_LAYERS["axial"]), layer(1, **_LAYERS["shifted-padded-ignore"])
        self.widen, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x)
        x = x + self.narrow(torch.relu(self.widen(x)))
        return torch.sigmoid(x + self.second(x))


def test_layers_inside_of_a_network_are_found_with_their_own_nodes() -> None:
    model = to_onnx(Block().eval(), _SHAPE)
    matches, misses = find_cuboid_attention(model)
    assert not misses
    assert [match.parameters.cuboids.cuboid for match in matches] == [(3, 1, 1), (2, 3, 4)]
    nodes = [set(match.nodes) for match in matches]
    assert not nodes[0] & nodes[1]
    assert all(not name.startswith(("widen", "narrow")) for names in nodes for name in names)


class Twisted(nn.Module):
    """Attention with one thing changed."""

    def __init__(self, change: str) -> None:
        super().__init__()
        self.layer, self.change = layer(**_LAYERS["axial"]), change

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer.norm(x)
        rows = y[0].permute(1, 2, 0, 3).reshape(24, 3, 16)
        q, k, v = self.layer.qkv(rows).reshape(24, 3, 3, 4, 4).permute(2, 0, 3, 1, 4)
        if self.change == "keys":
            k = torch.tanh(k)
        logits = 0.5 * q @ k.transpose(-1, -2)
        if self.change == "order":
            v = v.flip(2)
        if self.change == "temperature":
            logits = logits * logits.sigmoid()
        o = (torch.softmax(logits, -2 if self.change == "axis" else -1) @ v).permute(0, 2, 1, 3).reshape(24, 3, 16)
        if self.change == "places":
            o = o.flip(0)
        return self.layer.proj(o).reshape(4, 6, 3, 16).permute(2, 0, 1, 3)[None]


def test_the_same_attention_written_otherwise_is_recognised() -> None:
    model = to_onnx(Twisted("nothing").eval(), _SHAPE)
    (match,), misses = find_cuboid_attention(model)
    assert not misses
    assert match.parameters.cuboids.cuboid == (3, 1, 1)
    assert_equals_onnx_runtime(model, match)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("keys", "not the product of tokens and a constant matrix"),
        ("order", "arranged differently|not the product"),
        ("temperature", "not a product of queries and keys"),
        ("axis", "not over the last axis"),
        ("places", "do not return|not the product"),
    ],
)
def test_near_misses_are_refused_with_a_reason(change: str, reason: str) -> None:
    matches, misses = find_cuboid_attention(to_onnx(Twisted(change).eval(), _SHAPE))
    assert not matches
    assert len(misses) == 1
    assert re.search(reason, misses[0].reason)


def test_a_damaged_mask_is_refused() -> None:
    model = to_onnx(layer(**_LAYERS["shifted-padded-ignore"]), _SHAPE)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim >= 3 and value.shape[-1] == value.shape[-2] == 24 and value.dtype != np.float32:
            broken = value.copy()
            broken[..., 0, 1] = ~broken[..., 0, 1]
            tensor.CopyFrom(numpy_helper.from_array(broken, tensor.name))
    matches, misses = find_cuboid_attention(model)
    assert not matches
    assert "mask" in misses[0].reason


def test_a_lone_softmax_is_a_near_miss() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], name="alone")
    value = [helper.make_tensor_value_info(name, 1, [1, 4, 8]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph([node], "main", value[:1], value[1:]))
    matches, misses = find_cuboid_attention(model)
    assert not matches
    assert misses[0].node == "alone"


class WithGlobals(nn.Module):
    """Global vectors as one more input, and their update as one more output of a single layer."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.layer = layer(use_global_vector=True, **options)
        self.vectors = nn.Parameter(torch.randn(1, 5, 16))
        self.lift = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y, g = self.layer(x, self.lift(self.vectors + x.mean((1, 2, 3))[:, None]))
        return y + g.mean(1)[:, None, None, None]


_GLOBALS: dict[str, dict[str, Any]] = {
    "shared": {"cuboid_size": (3, 1, 1), "padding_type": "zeros"},
    "shared-own": {"cuboid_size": (3, 1, 1), "padding_type": "zeros", "use_global_self_attn": True},
    "separate-own": {"cuboid_size": (1, 2, 3), "separate_global_qkv": True, "use_global_self_attn": True},
    "shifted-ignore": {"cuboid_size": (2, 3, 4), "shift_size": (1, 1, 2), "official_global_mask": False},
}


@pytest.mark.parametrize("options", _GLOBALS.values(), ids=_GLOBALS)
def test_global_vectors_belong_to_the_pattern(options: dict[str, Any]) -> None:
    model = to_onnx(WithGlobals(**options).eval(), _SHAPE)
    (match,), misses = find_cuboid_attention(model)
    assert not misses
    found = match.parameters.globals
    assert found is not None
    assert match.global_input is not None
    assert match.global_output is not None
    assert (found.own is not None) == options.get("use_global_self_attn", False)
    assert not any(name.startswith("lift") for name in match.nodes)


def test_the_published_mask_of_global_vectors_is_a_near_miss() -> None:
    options: dict[str, Any] = {"cuboid_size": (2, 3, 4), "official_global_mask": True}
    matches, misses = find_cuboid_attention(to_onnx(WithGlobals(**options).eval(), _SHAPE))
    assert not matches
    assert any("mask of global vectors" in miss.reason for miss in misses)


def test_a_recognised_layer_runs_on_the_engine() -> None:
    (match,), _ = find_cuboid_attention(to_onnx(layer(**_LAYERS["shifted-padded-ignore"]), _SHAPE))
    x = np.random.default_rng(0).standard_normal(_SHAPE)
    quantised = quantise(match.parameters, [x[0]])
    graph = cuboid_graph(match.parameters, quantised)
    stored = np.clip(np.rint(x / quantised.input_scale) + quantised.layer.input_zero, -128, 127).astype(np.int8)
    device = Emulator(compile_graph(graph, load_spec("ne-64")).program).run({"x": stored})["y"]
    np.testing.assert_array_equal(device, run_region(graph, {"x": stored})["y"])
    real = (device[0].astype(float) - quantised.output_zero) * quantised.output_scale
    exact = attention(match.parameters, x[0]).output
    assert np.sqrt(np.mean((real - exact) ** 2)) < 0.06 * np.sqrt(np.mean(exact**2))
