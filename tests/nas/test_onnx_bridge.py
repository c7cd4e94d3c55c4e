from __future__ import annotations

import onnx
import pytest
from onnx import ModelProto

from lanefit.common.errors import UnsupportedError
from lanefit.estimator.live.ort_graph import ort_graph
from lanefit.export.onnx_export import to_onnx
from lanefit.models.registry import families
from lanefit.nas.onnx_bridge import to_timing_model
from lanefit.nas.space import Space

CHANNELS, CLASSES = 3, 10


def executed(model: ModelProto) -> list[tuple[str, tuple[int, ...]]]:
    found = [(node.operator.kind, node.operator.outputs[0].shape) for node in ort_graph(model).nodes]
    return sorted(found)


@pytest.mark.parametrize("name", ["ibn-classifier", "nas-bench-201", "mnasnet"])
def test_the_runtime_executes_the_same_operators_as_for_the_exported_module(name: str) -> None:
    family = families.get(name)
    architecture = Space.of(family).sample(11)
    options = {"input_channels": CHANNELS, "classes": CLASSES}
    exported = to_onnx(family.build(architecture, **options), (1, *family.input_shape(architecture, CHANNELS)))
    assert executed(to_timing_model(family.layers(architecture, **options))) == executed(exported)


@pytest.mark.parametrize("name", ["ibn-classifier", "nas-bench-201", "mnasnet"])
def test_the_written_model_is_valid_and_the_same_for_the_same_seed(name: str) -> None:
    family = families.get(name)
    layers = family.layers(Space.of(family).sample(3), input_channels=CHANNELS, classes=CLASSES)
    model = to_timing_model(layers)
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString() == to_timing_model(layers).SerializeToString()
    assert model.SerializeToString() != to_timing_model(layers, seed=1).SerializeToString()


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="without layers"):
        to_timing_model([])
