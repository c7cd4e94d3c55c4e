from __future__ import annotations

import numpy as np
import pytest
from family_conformance import FamilyConformance
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ConfigError, InputError
from lanefit.models.architecture import Architecture, KnobValue
from lanefit.models.family import Family
from lanefit.models.ibn_classifier import IBN_CLASSIFIER, round_channels, scaled_channels
from lanefit.models.layers import LayerKind, LayerSpec


class TestIbnClassifier(FamilyConformance):
    @pytest.fixture
    def family(self) -> Family:
        return IBN_CLASSIFIER


def one_stage(**changes: KnobValue) -> Architecture:
    values: dict[str, KnobValue] = {
        "resolution": 16, "activation": "relu6", "depth_multiplier": 1, "stem_channels": 8, "stem_kernel": 3,
        "stem_stride": 1, "head_channels": 0, "stages": 1, "stage1_depth": 1, "stage1_block1": "ibn",
        "stage1_expansion": 3, "stage1_kernel": 5, "stage1_channels": 8, "stage1_stride": 1,
    }  # fmt: skip
    return Architecture.of("ibn-classifier", {**values, **changes})


def described(architecture: Architecture) -> tuple[LayerSpec, ...]:
    return IBN_CLASSIFIER.layers(architecture, input_channels=1, classes=10)


def names(architecture: Architecture) -> list[str]:
    return [layer.name for layer in described(architecture)]


@pytest.mark.parametrize(
    ("block", "expansion", "parts"),
    [
        ("ibn", 3, ["expand", "depthwise", "project", "add"]),
        ("ibn", 1, ["depthwise", "project", "add"]),
        ("fused", 3, ["fused", "project", "add"]),
        ("conv", 3, ["conv", "add"]),
    ],
)
def test_each_kind_of_block_has_its_layers(block: str, expansion: int, parts: list[str]) -> None:
    architecture = one_stage(stage1_block1=block, stage1_expansion=expansion)
    assert names(architecture) == ["stem", *(f"stage1_block1_{part}" for part in parts), "pool", "classifier"]


def test_the_window_and_the_widths_sit_where_the_block_says() -> None:
    layers = {layer.name.removeprefix("stage1_block1_"): layer for layer in described(one_stage(stage1_channels=12))}
    assert layers["expand"].output_shape == (24, 16, 16)
    assert (layers["depthwise"].kernel, layers["depthwise"].padding) == (5, 2)
    assert layers["project"].output_shape == (12, 16, 16)
    assert [layers[n].activation for n in ("expand", "depthwise", "project")] == ["relu6", "relu6", "none"]


@pytest.mark.parametrize("change", [{"stage1_stride": 2}, {"stage1_channels": 12}])
def test_a_block_that_changes_its_shape_has_no_sum(change: dict[str, int]) -> None:
    assert "stage1_block1_add" not in names(one_stage(**change))


def test_only_the_first_block_of_a_stage_strides() -> None:
    layers = described(one_stage(stage1_depth=2, stage1_block2="fused", stage1_stride=2))
    strides = [layer.stride for layer in layers if layer.kernel > 1 and layer.name.startswith("stage1")]
    assert strides == [2, 1]


def test_expansion_is_dead_where_every_block_is_a_plain_convolution() -> None:
    plain = one_stage(stage1_block1="conv")
    assert "stage1_expansion" not in IBN_CLASSIFIER.canonicalise(plain).values
    other = plain.with_values(stage1_expansion=6)
    assert IBN_CLASSIFIER.canonicalise(plain).digest() == IBN_CLASSIFIER.canonicalise(other).digest()


def test_the_depth_multiplier_scales_every_layer_but_the_classifier() -> None:
    full, half = (described(one_stage(head_channels=64, depth_multiplier=m)) for m in (1, 0.5))
    widths = [(a.output_shape[0], b.output_shape[0]) for a, b in zip(full, half, strict=True)]
    assert widths == [(8, 4), (24, 12), (24, 12), (8, 4), (8, 4), (64, 32), (64, 32), (10, 10)]


@given(st.integers(1, 4096), st.floats(0.05, 4))
def test_scaled_channels_are_multiples_of_four_near_the_product(channels: int, multiplier: float) -> None:
    scaled = scaled_channels(channels, multiplier)
    if multiplier == 1:
        assert scaled == channels
    else:
        assert scaled % 4 == 0
        assert 0.9 * channels * multiplier <= scaled <= max(4, channels * multiplier + 4)


@pytest.mark.parametrize(
    ("channels", "rounded"), [(0.4, 8), (8, 8), (11.9, 16), (12, 16), (14.3, 16), (48, 48), (68, 72)]
)
def test_rounding_to_eight_follows_the_published_rule(channels: float, rounded: int) -> None:
    assert round_channels(channels, 8) == rounded


@pytest.mark.parametrize(
    ("change", "what", "allowed"),
    [
        ({"stage1_channels": 0}, "stage1_channels cannot be 0", "a whole number from 1 to 4096"),
        ({"stage1_channels": 12.5}, "stage1_channels cannot be 12.5", "a whole number"),
        ({"stage1_kernel": 4}, "stage1_kernel cannot be 4", "one of 1, 3, 5, 7"),
        ({"stage1_block1": "dw"}, "stage1_block1 cannot be 'dw'", "one of ibn, fused, conv"),
        ({"stage1_expansion": 99}, "stage1_expansion cannot be 99", "a number from 0.25 to 16"),
        ({"stages": 2}, "stage2_depth is missing", "a whole number from 1 to 8"),
        ({"activation": "gelu"}, "activation cannot be 'gelu'", "one of relu, relu6"),
        ({"resolution": "big"}, "resolution cannot be 'big'", "a whole number from 4 to 1024"),
        ({"stage9_depth": 1}, "unknown knob 'stage9_depth'", "known: "),
        ({"stage1_block9": "ibn"}, "unknown knob 'stage1_block9'", "known: "),
        ({"stage1_block": "ibn"}, "unknown knob 'stage1_block'", "known: "),
        ({"stage1_depth2": 1}, "unknown knob 'stage1_depth2'", "known: "),
    ],
)
def test_a_bad_knob_is_refused_with_what_is_allowed(change: dict[str, KnobValue], what: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        described(one_stage(**change))
    assert allowed in caught.value.hint


def test_a_network_needs_inputs_and_classes() -> None:
    with pytest.raises(InputError, match="0 classes"):
        IBN_CLASSIFIER.layers(one_stage(), input_channels=1, classes=0)


def test_the_space_holds_every_block_kind_and_widths_that_fill_no_lane_evenly() -> None:
    generator = np.random.default_rng(0)
    seen = [layer for _ in range(50) for layer in described(IBN_CLASSIFIER.sample(generator))]
    kinds = {"conv", "depthwise", "add", "global_average_pool", "linear"}
    assert {layer.kind for layer in seen} == set(map(LayerKind, kinds))
    assert {"fused", "conv", "expand", "depthwise"} <= {layer.name.rsplit("_", 1)[-1] for layer in seen}
    channels = {value for knob in IBN_CLASSIFIER.knobs() if knob.kind == "channels" for value in knob.values}
    assert {12, 20, 24, 40} <= channels
