"""Well-known networks with random weights, for timing only.

python benchmarks/networks.py mobilenet-v2-224 model.onnx
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from lanefit.models.baselines import mobilenet_v2
from lanefit.models.registry import families


def _conv(source: int, target: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(source, target, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(target))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2015, figure 5 left)."""

    def __init__(self, source: int, target: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(source, target, 3, stride)
        self.second = _conv(target, target, 3, 1)
        same = stride == 1 and source == target
        self.shortcut = nn.Identity() if same else _conv(source, target, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 for 224×224 images (He et al. 2015, table 1): 1.81 GMAC."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        source = 64
        for target, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [BasicBlock(source, target, stride), BasicBlock(target, target, 1)]
            source = target
        self.stem = nn.Sequential(_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def _mobilenet_v2() -> nn.Module:
    architecture = mobilenet_v2(width=1.0, resolution=224)
    return families.get(architecture.family).build(architecture, input_channels=3, classes=1000, seed=0)


def _resnet18() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResNet18()


NETWORKS: dict[str, Callable[[], nn.Module]] = {"mobilenet-v2-224": _mobilenet_v2, "resnet-18-224": _resnet18}
INPUT_SHAPE = (1, 3, 224, 224)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("network", choices=sorted(NETWORKS))
    options.add_argument("output", type=Path, help="the float ONNX file to write")
    args = options.parse_args()
    from lanefit.export.onnx_export import to_onnx

    args.output.write_bytes(to_onnx(NETWORKS[args.network]().eval(), INPUT_SHAPE).SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main())
