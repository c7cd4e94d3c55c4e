"""Published networks as architectures: what a search has to beat."""

from __future__ import annotations

from ..common.errors import ConfigError
from .architecture import Architecture, KnobValue
from .ibn_classifier import FAMILY_NAME, round_channels

# Sandler et al. 2018 (arXiv:1801.04381), table 2: expansion, channels, blocks, stride of the first block
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MOBILENET_V2_HEAD = 1280
SMALL_INPUT = 64  # below this, the stem and the second stage keep the map size, as usual for CIFAR


def mobilenet_v2(width: float = 0.5, resolution: int = 32) -> Architecture:
    """MobileNetV2 with ReLU6. Widths are rounded to multiples of 8 as published; the head stays 1280 below width 1.

    At resolutions under 64 the stem has stride 1 and the stages 1, 1, 2, 2, 1, 2, 1, which leaves a 4×4 map
    of a 32×32 input; otherwise strides are the published ones, a 7×7 map of 224×224.
    """
    if not 0.1 <= width <= 3:
        raise ConfigError(f"width {width:g} is out of range", where="width", hint="allowed: a number from 0.1 to 3")
    small = resolution < SMALL_INPUT
    values: dict[str, KnobValue] = {
        "resolution": resolution,
        "activation": "relu6",
        "depth_multiplier": 1,  # widths below are final: the family's own multiplier would round differently
        "stem_channels": round_channels(32 * width, 8),
        "stem_kernel": 3,
        "stem_stride": 1 if small else 2,
        "head_channels": round_channels(MOBILENET_V2_HEAD * max(1.0, width), 8),
        "stages": len(MOBILENET_V2),
    }
    for index, (expansion, channels, depth, stride) in enumerate(MOBILENET_V2, start=1):
        values |= {
            f"stage{index}_expansion": expansion,
            f"stage{index}_channels": round_channels(channels * width, 8),
            f"stage{index}_depth": depth,
            f"stage{index}_stride": 1 if small and index == 2 else stride,
            f"stage{index}_kernel": 3,
            **{f"stage{index}_block{i}": "ibn" for i in range(1, depth + 1)},
        }
    return Architecture.of(FAMILY_NAME, values)
