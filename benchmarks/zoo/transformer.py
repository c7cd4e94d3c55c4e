"""A short stack of transformer blocks of ViT-tiny's size (Touvron et al. 2020, arXiv:2012.12877, table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PATCH = 16


class Block(nn.Module):
    """Normalise first, self-attention, then a two-layer perceptron of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.project(self.attend(self.norm1(x)))
        return x + self.narrow(nn.functional.gelu(self.wide(self.norm2(x))))

    def attend(self, x: Tensor) -> Tensor:
        count, tokens, width = x.shape
        q, k, v = (
            part(x).reshape(count, tokens, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = torch.softmax(q @ k.transpose(2, 3) * (width // self.heads) ** -0.5, -1)
        return (scores @ v).transpose(1, 2).reshape(count, tokens, width)


class VitTiny(nn.Module):
    """196 tokens of a 224×224 image, 192 wide, 3 heads; `depth` blocks of the published 12."""

    def __init__(self, depth: int = 4, width: int = 192, heads: int = 3, classes: int = 1000) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.position = nn.Parameter(0.02 * torch.randn(1, (224 // PATCH) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))
