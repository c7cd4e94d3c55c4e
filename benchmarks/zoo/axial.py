"""Blocks in the axial pattern of Earthformer (Gao et al. 2022, arXiv:2207.05833, §3.1): attention along T, H and W."""

from __future__ import annotations

from torch import Tensor, nn

from lanefit.kernels.cuboid_definition import CuboidSelfAttention


class AxialBlock(nn.Module):
    """(1, T, H, W, C) → the same shape: three cuboid attentions, each with a perceptron of four times the width."""

    def __init__(self, shape: tuple[int, int, int], channels: int, heads: int = 4) -> None:
        super().__init__()
        t, h, w = shape
        cuboids = ((t, 1, 1), (1, h, 1), (1, 1, w))
        self.attention = nn.ModuleList(CuboidSelfAttention(channels, heads, cuboid) for cuboid in cuboids)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in cuboids)
        self.wide = nn.ModuleList(nn.Linear(channels, 4 * channels) for _ in cuboids)
        self.narrow = nn.ModuleList(nn.Linear(4 * channels, channels) for _ in cuboids)

    def forward(self, x: Tensor) -> Tensor:
        for attention, norm, wide, narrow in zip(self.attention, self.norms, self.wide, self.narrow, strict=True):
            x = x + attention(x)
            x = x + narrow(nn.functional.gelu(wide(norm(x))))
        return x
