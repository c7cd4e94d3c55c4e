"""Operators that move elements, from torch and QDQ models to the device."""

import numpy as np
import pytest
import torch
from export_examples import QdqGraph
from onnx import ModelProto
from torch import nn

from lanefit.export.importer import import_model
from lanefit.export.judgement import refused
from lanefit.export.onnx_export import to_onnx
from lanefit.export.onnx_model import DEQUANTISE, QUANTISE, GraphIndex
from lanefit.export.pipeline import Built, build
from lanefit.export.placement import Placement
from lanefit.export.quantise import quantise, random_calibration
from lanefit.export.split_run import run_samples, session
from lanefit.targets.spec import load_spec

NE256 = load_spec("ne-256")
SHAPE = (1, 8, 12, 10)
MAP = (1, 4, 6, 6)


class Moves(nn.Module):
    """Joins, splits, pads, shuffles, transposes and cuts maps between convolutions of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(8, 16, 1)
        self.up = nn.ConvTranspose2d(32, 16, 4, 2, 1)
        self.side, self.deep, self.thin = nn.Conv2d(8, 4, 1), nn.Conv2d(20, 12, 3), nn.Conv2d(3, 16, 3, padding=1)
        self.wide = nn.ConvTranspose2d(16, 16, 3, 2, 1, 1, groups=16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(torch.cat([torch.relu(self.left(x)), self.right(x)], 1))
        first, second = x.chunk(2, 1)
        x = torch.cat([second, first, self.side(first)], 1)
        x = torch.pixel_shuffle(self.deep(nn.functional.pad(x, (1, 1, 0, 1))), 2)
        return self.wide(self.thin(x.transpose(2, 3)))[:, :, 1:-1, 2:20]


@pytest.fixture(scope="module")
def int8() -> ModelProto:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return quantise(to_onnx(Moves().eval(), SHAPE), random_calibration(SHAPE, 4))


@pytest.fixture(scope="module")
def built(int8: ModelProto) -> Built:
    return build(int8, NE256)


def test_all_of_it_runs_on_the_engine_in_one_region(built: Built) -> None:
    assert not refused(built.placements)
    assert len(built.compiled) == 1


def test_the_device_has_the_bits_of_onnx_runtime(int8: ModelProto, built: Built) -> None:
    feeds = {"input": np.random.default_rng(1).standard_normal((3, *SHAPE[1:]), np.float32)}
    np.testing.assert_array_equal(built.run_device(feeds)["output"], run_samples(session(int8), feeds)["output"])


def test_operands_of_a_concatenation_get_its_scale(int8: ModelProto) -> None:
    index = GraphIndex(int8)
    joined = [node for node in index.nodes if node.op_type == "Concat"]
    for node in joined:
        (end,) = index.consumers[node.output[0]]
        sources = [index.producer[name] for name in node.input]
        assert end.op_type == QUANTISE
        made = [s for s in sources if index.producer[index.producer[s.input[0]].input[0]].op_type != "Split"]
        assert [s.op_type for s in made] == [DEQUANTISE] * len(made)
        assert {tuple(s.input[1:]) for s in made} == {tuple(end.input[1:])}


def _one(op_type: str, *extra: np.ndarray, **attributes: object) -> Placement:
    """Where one operator between quantised input and output runs."""
    graph = QdqGraph(MAP)
    more = [graph.constant(f"extra{i}", value) for i, value in enumerate(extra)]
    y = graph.op(op_type, "it", [graph.pair("input", "x", 0.03, 5), *more], **attributes)
    model = graph.model(graph.pair(y, "y", 0.03, 5))
    return next(p for p in import_model(model).placements if p.node == "it")


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("found", "value"),
    [
        (lambda: _one("Pad", _ints(0, 1, 0, 0, 0, 0, 0, 0)), "channels padded by 1"),
        (lambda: _one("Pad", _ints(0, 0, 1, 1, 0, 0, 1, 1), mode="edge"), "mode edge"),
        (lambda: _one("Pad", _ints(0, 0, 1, 1, 0, 0, 1, 1), np.float32(2)), "filled with extra1"),
        (lambda: _one("Slice", _ints(3), _ints(-7), _ints(2), _ints(-1)), "step -1"),
        (lambda: _one("Slice", _ints(0), _ints(4), _ints(1), _ints(2)), "every 2nd channel"),
    ],
    ids=["channels", "edge", "fill", "backwards", "channel step"],
)
def test_what_no_view_expresses_stays_on_the_cpu_and_says_why(found: object, value: str) -> None:
    assert callable(found)
    placement = found()
    assert (placement.where, placement.rule, placement.value) == ("cpu", "moved-whole", value)


@pytest.mark.parametrize(
    "found",
    [
        lambda: _one("Transpose", perm=[0, 1, 3, 2]),
        lambda: _one("Pad", _ints(0, 0, 1, 0, 0, 0, 1, 2)),
        lambda: _one("Slice", _ints(-3), _ints(100), _ints(-1), _ints(2)),
        lambda: _one("SpaceToDepth", blocksize=2),
        lambda: _one("DepthToSpace", blocksize=2),
    ],
    ids=["transpose", "pad", "slice", "space to depth", "depth to space"],
)
def test_what_views_express_runs_on_the_engine(found: object) -> None:
    assert callable(found)
    assert found().where == "engine"
