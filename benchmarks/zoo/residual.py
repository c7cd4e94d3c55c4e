"""Residual networks (He et al. 2015b, arXiv:1512.03385, table 1) and the one of MLPerf Tiny."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from .blocks import Classifier, conv_norm


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (figure 5 left)."""

    expansion = 1

    def __init__(self, source: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(source, width, 3, stride, activation="relu")
        self.second = conv_norm(width, width, 3)
        same = stride == 1 and source == width
        self.shortcut = nn.Identity() if same else conv_norm(source, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 to four times the width (figure 5 right); the 3×3 carries the stride, as usual since 2016."""

    expansion = 4

    def __init__(self, source: int, width: int, stride: int) -> None:
        super().__init__()
        target = width * self.expansion
        self.reduce = conv_norm(source, width, 1, activation="relu")
        self.spatial = conv_norm(width, width, 3, stride, activation="relu")
        self.restore = conv_norm(width, target, 1)
        same = stride == 1 and source == target
        self.shortcut = nn.Identity() if same else conv_norm(source, target, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.restore(self.spatial(self.reduce(x))) + self.shortcut(x))


Block: TypeAlias = type[BasicBlock] | type[Bottleneck]


def _stages(block: Block, source: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for index in range(depth):
            blocks.append(block(source, width, 2 if number and index == 0 else 1))
            source = width * block.expansion
    return nn.Sequential(*blocks)


class ResNet(nn.Module):
    """7×7 stem, maximum pool, four stages: ResNet-18 (1.81 GMAC at 224×224), ResNet-50 (4.09 GMAC)."""

    def __init__(self, block: Block, depths: tuple[int, ...], classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 64, 7, 2, activation="relu"), nn.MaxPool2d(3, 2, 1))
        self.blocks = _stages(block, 64, (64, 128, 256, 512), depths)
        self.head = Classifier(512 * block.expansion, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


class ResNet8(nn.Module):
    """MLPerf Tiny's image classifier (Banbury et al. 2021, arXiv:2106.07597): 3×3 stem, one block for each width."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_norm(3, 16, 3, activation="relu")
        self.blocks = _stages(BasicBlock, 16, (16, 32, 64), (1, 1, 1))
        self.head = Classifier(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def resnet18() -> nn.Module:
    return ResNet(BasicBlock, (2, 2, 2, 2))


def resnet50() -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 6, 3))
