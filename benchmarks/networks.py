"""Well-known networks with random weights, for timing only.

python benchmarks/networks.py mobilenet-v2-224 model.onnx
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from onnx import ModelProto
from torch import nn
from zoo.blocks import seeded
from zoo.mobile import (
    DsCnn,
    digits_baseline,
    digits_winner,
    efficientnet_lite0,
    mobilenet_edgetpu,
    mobilenet_v1_224,
    mobilenet_v2_224,
)
from zoo.residual import ResNet8, resnet18, resnet50
from zoo.segmentation import UNet
from zoo.transformer import VitTiny

from lanefit.export.onnx_export import to_onnx
from lanefit.export.onnx_model import GraphIndex
from lanefit.export.pipeline import quantised
from lanefit.export.quantise import random_calibration

_IMAGE = (1, 3, 224, 224)


@dataclass(frozen=True, slots=True)
class Network:
    """How to build a network, and the float32 input that it takes, batch 1 included."""

    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...] = _IMAGE

    def real(self) -> ModelProto:
        """The float ONNX model; the same weights in every run."""
        return to_onnx(seeded(self.build), self.input_shape)


NETWORKS: dict[str, Network] = {
    "mobilenet-v1-224": Network(mobilenet_v1_224),
    "mobilenet-v2-224": Network(mobilenet_v2_224),
    "resnet-8": Network(ResNet8, (1, 3, 32, 32)),
    "resnet-18-224": Network(resnet18),
    "resnet-50-224": Network(resnet50),
    "ds-cnn": Network(DsCnn, (1, 1, 49, 10)),
    "efficientnet-lite0-224": Network(efficientnet_lite0),
    "mobilenet-edgetpu-224": Network(mobilenet_edgetpu),
    "u-net-128": Network(UNet, (1, 3, 128, 128)),
    "vit-tiny-4": Network(VitTiny),
    "digits-winner": Network(digits_winner, (1, 1, 28, 28)),
    "digits-baseline": Network(digits_baseline, (1, 1, 32, 32)),
}


@lru_cache
def int8(name: str) -> ModelProto:
    """The int8 QDQ model of a network; its scales come from random data and do not affect time."""
    real = NETWORKS[name].real()
    return quantised(real, random_calibration(GraphIndex(real).shape(real.graph.input[0].name))).int8


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("network", choices=sorted(NETWORKS))
    options.add_argument("output", type=Path, help="the float ONNX file to write")
    args = options.parse_args()
    args.output.write_bytes(NETWORKS[args.network].real().SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main())
