"""Scores that need no data: networks looked at with noise."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from .base import proxy
from .block_passes import rows
from .dataflow import Dataflow
from .subject import Subject
from .trace import buffer_copies, noise_like, seeded, training_mode

ZEN_IMAGES = 8
ZEN_STEP = 0.01  # relative size of the perturbation, value of the authors' program


@proxy("zen", 'Lin et al., "Zen-NAS", ICCV 2021, with the skips of the network left in')
def zen(subject: Subject) -> float:
    """Logarithm of how far a small change of the input moves the last map, batch normalisation undone.

    With weights from the standard normal distribution and noise as images.
    """
    noise = noise_like(subject.inputs[:ZEN_IMAGES], subject.seed)
    state = _gaussian_state(subject.module, noise, subject.seed)
    images = (noise, noise + ZEN_STEP * noise_like(noise, subject.seed + 1))
    with training_mode(subject.module), seeded(subject.seed, noise.device):
        seen = [_watch(subject.module, {**state, **buffer_copies(subject.module, noise)}, x) for x in images]
    if seen[0].last is None or seen[1].last is None:
        return -math.inf
    moved = (seen[0].last - seen[1].last).abs().flatten(1).sum(1).mean().item()
    return math.log(moved) + seen[0].log_scale if moved > 0 else -math.inf


def _gaussian_state(module: nn.Module, like: Tensor, seed: int) -> dict[str, Tensor]:
    """The parameters with every weight of more than one dimension drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, parameter in module.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator) if parameter.dim() > 1 else parameter.detach()
        state[name] = drawn.to(like.device, like.dtype)
    return state


def _watch(module: nn.Module, state: dict[str, Tensor], images: Tensor) -> _Scales:
    with torch.no_grad(), _Scales(images) as seen:
        functional_call(module, state, images)
    return seen


class _Scales(TorchFunctionMode):
    """The last map of a forward pass, and the logarithm of the deviations that normalisations divided by."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.log_scale = 0.0
        self._flow = Dataflow(images)

    @property
    def last(self) -> Tensor | None:
        waypoints = self._flow.waypoints()
        return waypoints[-1] if waypoints else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            variance = float(rows(args[0]).var(0).mean())
            self.log_scale += 0.5 * math.log(variance) if variance > 0 else 0.0
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self._flow.record(result, (*args, *kwargs.values()), weighted=func in (torch.conv2d, F.linear))
        return result


@proxy(
    "meco", 'Jiang et al., "MeCo: Zero-Shot NAS with One Data and Single Forward Pass", NeurIPS 2023, here two images'
)
def meco(subject: Subject) -> float:
    """Logarithm of the summed least eigenvalues of the channel correlations of each convolution, for noise.

    A convolution that widens its input has none and counts nothing, whatever it computes.
    """
    total = math.fsum(_least_eigenvalue(p.output.detach()) for p in subject.noise_trace.products if p.output.dim() == 4)
    return math.log(total) if total > 0 else -math.inf


def _least_eigenvalue(output: Tensor) -> float:
    """Of the Pearson correlations of channels over positions; 0 where a channel is constant."""
    channels = rows(output).T.double()
    centred = channels - channels.mean(1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()) or not bool(torch.isfinite(norms).all()):
        return 0.0
    unit = centred / norms
    return max(0.0, float(torch.linalg.eigvalsh(unit @ unit.T)[0]))
