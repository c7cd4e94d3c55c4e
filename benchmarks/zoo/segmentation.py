"""A U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with "same" padding and nearest upsampling."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from .blocks import conv_norm


def _twice(source: int, target: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(source, target, 3, activation="relu"), conv_norm(target, target, 3, activation="relu")
    )


class UNet(nn.Module):
    """Halves and doubles the map once per width but the last; each way up reads the map of its size on the way down."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128), classes: int = 4) -> None:
        super().__init__()
        sources = (3, *widths[:-1])
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip(sources, widths, strict=True))
        pairs = list(pairwise(widths))[::-1]
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), conv_norm(wide, slim, 3, activation="relu"))
            for slim, wide in pairs
        )
        self.up = nn.ModuleList(_twice(2 * slim, slim) for slim, _ in pairs)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for narrow, up, skip in zip(self.narrow, self.up, skips[-2::-1], strict=True):
            x = up(torch.cat((skip, narrow(x)), 1))
        return self.head(x)
