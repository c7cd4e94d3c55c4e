from __future__ import annotations

import pytest

from lanefit.common.errors import ConfigError
from lanefit.models.baselines import mobilenet_v2
from lanefit.models.ibn_classifier import IBN_CLASSIFIER


def test_the_full_network_has_the_published_parameters_and_work() -> None:
    architecture = mobilenet_v2(1.0, 224)
    module = IBN_CLASSIFIER.build(architecture, input_channels=3, classes=1000)
    assert sum(p.numel() for p in module.parameters()) == 3_504_872
    layers = IBN_CLASSIFIER.layers(architecture, input_channels=3, classes=1000)
    assert sum(layer.macs for layer in layers) == pytest.approx(300.8e6, rel=1e-3)
    assert layers[-3].output_shape == (1280, 7, 7)


def test_the_half_width_network_for_small_images_keeps_its_maps_and_head() -> None:
    layers = {layer.name: layer for layer in IBN_CLASSIFIER.layers(mobilenet_v2(), input_channels=1, classes=10)}
    assert layers["stem"].output_shape == (16, 32, 32)
    assert layers["stage2_block2_add"].output_shape == (16, 32, 32)
    assert layers["head"].output_shape == (1280, 4, 4)
    widths = [layers[f"stage{i}_block1_project"].output_shape[0] for i in range(1, 8)]
    assert widths == [8, 16, 16, 32, 48, 80, 160]


def test_baselines_are_canonical() -> None:
    for architecture in (mobilenet_v2(), mobilenet_v2(1.0, 224), mobilenet_v2(1.4, 224)):
        assert IBN_CLASSIFIER.canonicalise(architecture) == architecture


def test_a_width_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="width 0 is out of range"):
        mobilenet_v2(0)
