"""What the outputs of blocks say: how many directions they use, and how they stretch gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .trace import noise_like


@dataclass(frozen=True, slots=True)
class Pull:
    """How one block changes gradients, from random signs v at its output: E[v vᵀ] = 1.

    `gain`: ‖Jᵀ v‖ / ‖v‖, the root mean square of the singular values of the whole Jacobian J (for as many outputs as
    inputs). `stretch`: the largest singular value of the mean of (Jᵀ v) vᵀ over samples and positions, the Jacobian
    between channels at the same position. NaN where the gradient is lost or not finite.
    """

    gain: float
    stretch: float


def block_entropies(blocks: tuple[Tensor, ...]) -> list[float]:
    """Entropy in nats of the normalised eigenvalues of the channel covariance of every block's output."""
    return [_spectral_entropy(rows(block.detach()).double()) for block in blocks]


def _spectral_entropy(features: Tensor) -> float:
    """Of (positions, channels); a constant map has entropy 0, a map that is not finite NaN."""
    centred = features - features.mean(0)
    covariance = centred.T @ centred
    if not bool(torch.isfinite(covariance).all()):
        return math.nan
    spectrum = torch.linalg.eigvalsh(covariance).clamp_min(0)
    share = spectrum / spectrum.sum().clamp_min(torch.finfo(spectrum.dtype).tiny)
    return -float(torch.special.xlogy(share, share).sum())


def block_pulls(blocks: tuple[Tensor, ...], seed: int) -> list[Pull]:
    """What each block but the first does to gradients that run back through it: one backward pass in pieces."""
    return [_pull(before, after, noise_like(after, seed, signs=True)) for before, after in pairwise(blocks)]


def _pull(before: Tensor, after: Tensor, signs: Tensor) -> Pull:
    (gradient,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
    if gradient is None or not bool(torch.isfinite(gradient).all()):
        return Pull(math.nan, math.nan)
    gain = float(gradient.double().norm() / signs.double().norm())
    back, ahead = rows(_same_extent(gradient, after)), rows(signs)
    return Pull(gain, float(torch.linalg.matrix_norm((back.T @ ahead).double() / len(ahead), 2)))


def _same_extent(gradient: Tensor, after: Tensor) -> Tensor:
    """Sums a gradient over the positions that a stride merges, so that positions of both sides correspond."""
    if gradient.dim() != 4 or gradient.shape[2:] == after.shape[2:]:
        return gradient
    merged = gradient.shape[2:].numel() / after.shape[2:].numel()
    return F.adaptive_avg_pool2d(gradient, (after.shape[2], after.shape[3])) * merged


def rows(features: Tensor) -> Tensor:
    """(N, C, H, W) as (N·H·W, C); other ranks have their channels last."""
    ordered = features.movedim(1, -1) if features.dim() == 4 else features
    return ordered.reshape(-1, ordered.shape[-1])
