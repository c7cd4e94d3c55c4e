"""Random geometric changes of a training batch: one affine map per image, drawn from a given generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 0.08  # of the image side, either way
ROTATION = math.radians(10)
SCALE = 0.1


def augment(images: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """`images` float (N, C, H, W), each shifted, turned, scaled and perhaps mirrored; what comes in from outside is 0.

    Draws on the CPU, so that a seed means the same on every device.
    """
    count = len(images)
    shift, turn, grow = (torch.rand((count, n), generator=generator) * 2 - 1 for n in (2, 1, 1))
    mirror = torch.where(torch.rand((count, 1), generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(count, 1)
    angle, scale = ROTATION * turn, 1 + SCALE * grow
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    # affine_grid works in coordinates from -1 to 1: a shift of the whole side is 2
    rows = (cosine * mirror, -sine, 2 * SHIFT * shift[:, :1], sine * mirror, cosine, 2 * SHIFT * shift[:, 1:])
    matrix = torch.cat(rows, dim=1).reshape(count, 2, 3).to(images.device)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
