"""Transformers: tokens, heads and products of activations, from torch modules and QDQ models to the device."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from export_examples import QdqGraph
from torch import nn
from torch.nn import functional as F

from lanefit.export.graph import ConvConstants
from lanefit.export.importer import import_model
from lanefit.export.judgement import refused
from lanefit.export.linear_form import linear_form
from lanefit.export.onnx_export import to_onnx
from lanefit.export.onnx_model import GraphIndex
from lanefit.export.operands import links
from lanefit.export.pipeline import Built, Models, build, quantised
from lanefit.export.quantise import random_calibration
from lanefit.export.split_run import run_samples, session
from lanefit.export.stages import device_stages, output_steps
from lanefit.export.verify import verify
from lanefit.kernels.movement_ops import Rearrange
from lanefit.kernels.ops import Conv2d, MatMul
from lanefit.kernels.subgraph import Kind
from lanefit.targets.spec import load_spec

NE256, NE64 = load_spec("ne-256"), load_spec("ne-64")
IMAGE = (1, 3, 16, 16)


class Attention(nn.Module):
    """One projection for queries, keys and values; torch's fused attention, or its operators written out."""

    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count, tokens, width = x.shape
        parts = self.qkv(x).reshape(count, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.softmax(q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5, -1) @ v
        return self.project(y.transpose(1, 2).reshape(count, tokens, width))


class Vit(nn.Module):
    """A class token, positions, layer scale, GELU by tanh, and a head on the class token: an odd number of tokens."""

    def __init__(self, width: int = 64, heads: int = 2, *, fused: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.first = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.position = nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.attention = Attention(width, heads, fused=fused)
        self.scale = nn.Parameter(torch.rand(width) + 0.5)
        self.wide, self.narrow, self.head = nn.Linear(width, 96), nn.Linear(96, width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.position
        x = x + self.scale * self.attention(self.norm1(x))
        x = x + self.narrow(F.gelu(self.wide(self.norm2(x)), approximate="tanh"))
        return self.head(self.norm(x)[:, 0])


class Mixer(nn.Module):
    """Layers over tokens and over channels in turn, and a mean over tokens."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        self.over, self.back = nn.Linear(16, 24), nn.Linear(24, 16)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.back(F.gelu(self.over(self.norm(x).transpose(1, 2)))).transpose(1, 2)
        return self.head(x.mean(1))


class ChannelsLast(nn.Module):
    """A ConvNeXt block: normalised and widened with its channels last, in four dimensions."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches, self.depthwise = nn.Conv2d(3, width, 4, 4), nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm, self.wide, self.narrow = nn.LayerNorm(width), nn.Linear(width, 48), nn.Linear(48, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.narrow(F.gelu(self.wide(y))).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """torch's own encoder layer, whose attention puts the batch behind the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(256, 32)
        self.layer = nn.TransformerEncoderLayer(32, 2, 48, activation="gelu", batch_first=True, norm_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.enter(x.flatten(2)))


class WithWeights(nn.Module):
    """nn.MultiheadAttention as it is exported when asked for its weights: products of three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.attention = nn.Linear(256, 32), nn.MultiheadAttention(32, 1, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x.flatten(2))
        return self.attention(x, x, x)[0]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "fused": Vit,
    "written out": lambda: Vit(fused=False),
    "mixer": Mixer,
    "channels last": ChannelsLast,
    "encoder": Encoder,
    "with weights": WithWeights,
}


def _models(make: Callable[[], nn.Module]) -> Models:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return quantised(make().eval(), random_calibration(IMAGE, 4), IMAGE)


@pytest.fixture(scope="module", params=NETWORKS)
def models(request: pytest.FixtureRequest) -> Models:
    return _models(NETWORKS[request.param])


@pytest.fixture(scope="module")
def built(models: Models) -> Built:
    return build(models.int8, NE256)


def test_all_of_it_runs_on_the_engine_in_one_region(built: Built) -> None:
    assert not refused(built.placements)
    assert len(built.compiled) == 1


def test_the_device_has_the_bits_of_the_integers_and_onnx_runtime_is_within_the_table(built: Built) -> None:
    feeds = {"input": np.random.default_rng(1).standard_normal((2, *IMAGE[1:]), np.float32)}
    stages = device_stages(built.imported, [item.program for item in built.compiled], None, feeds)
    report = verify(stages, output_steps(built.imported.model))
    assert report.passed
    assert report.stage("device").max_error == 0


def test_the_float_model_is_the_same_function_with_its_layers_as_convolutions(models: Models) -> None:
    assert models.module is not None
    real, feeds = to_onnx(models.module, IMAGE), {"input": random_calibration(IMAGE, 2, 7)[0]}
    before, after = (run_samples(session(model), feeds)["output"] for model in (real, linear_form(real)))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    assert not any(node.op_type == "Gemm" and len(before.shape) > 2 for node in linear_form(real).graph.node)


def test_a_scratchpad_smaller_than_the_scores_changes_no_bit() -> None:
    models = _models(Vit)
    wide, narrow = (build(models.int8, spec) for spec in (NE256, NE64))
    feeds = {"input": random_calibration(IMAGE, 2, 3)[0]}
    np.testing.assert_array_equal(wide.run_device(feeds)["output"], narrow.run_device(feeds)["output"])


def test_heads_and_turned_keys_are_views_and_the_factor_of_the_scores_costs_nothing() -> None:
    built = build(_models(Vit).int8, NE256)
    assert built.copied_bytes == 0
    kinds = [step.subgraph.kind for item in built.compiled for step in item.plan.steps]
    assert kinds.count(Kind.TABLE) == 1  # GELU
    assert kinds.count(Kind.MATMUL) == 2


def test_biases_keep_32_bits_and_weights_a_scale_for_each_output() -> None:
    (region,) = import_model(_models(Vit).int8).regions
    layers = [node for node in region.graph.nodes if isinstance(node.op, Conv2d)]
    assert len(layers) == 6
    for node in layers:
        constants = region.graph.constants[node.name]
        assert isinstance(constants, ConvConstants)
        assert len(np.unique(constants.scales)) > 1
        assert np.abs(constants.bias).max() > 127


def _product(shape: tuple[int, ...], order: list[int] | None) -> QdqGraph:
    graph = QdqGraph(shape)
    x = graph.pair("input", "x", 0.03, 5)
    other = x if order is None else graph.pair(graph.op("Transpose", "turn", [x], perm=order), "t", 0.03, 5)
    graph.pair(graph.op("MatMul", "it", [x, other]), "y", 0.05, 3)
    return graph


@pytest.mark.parametrize(
    ("shape", "order", "turned"),
    [((1, 4, 4), None, False), ((1, 6, 4), [0, 2, 1], True), ((1, 2, 6, 4), [0, 1, 3, 2], True)],
)
def test_a_product_reads_its_second_matrix_as_it_lies(
    shape: tuple[int, ...], order: list[int] | None, turned: bool
) -> None:
    model = _product(shape, order).model("y.dq.out")
    built = build(model, NE256)
    assert not refused(built.placements)
    assert built.copied_bytes == 0 or not turned
    products = [n.op for item in built.compiled for n in item.graph.nodes if isinstance(n.op, MatMul)]
    assert [op.transposed for op in products] == [turned]
    feeds = {"input": np.random.default_rng(0).normal(0, 1, (2, *shape[1:])).astype(np.float32)}
    found, expected = built.run_device(feeds), run_samples(session(model), feeds)
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= 0.05 + 1e-6


def test_what_is_read_through_a_chain_has_the_places_that_numpy_gives() -> None:
    (region,) = import_model(_models(Vit).int8).regions
    moves = [node.op for node in region.graph.nodes if isinstance(node.op, Rearrange)]
    assert moves
    for op in moves:
        source = np.arange(np.prod(op.input))
        kept = op.indices.reshape(-1)
        assert set(kept) <= set(source)
        assert len(set(kept)) == kept.size


def test_a_tensor_that_nothing_moves_is_its_own_base() -> None:
    model = import_model(_models(Mixer).int8).model
    index = GraphIndex(model)
    first = next(node for node in index.nodes if node.op_type == "QuantizeLinear")
    chain = links(index, first.output[0])
    assert (chain.base, chain.nodes) == (first.output[0], ())
