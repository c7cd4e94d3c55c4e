"""Building blocks of the benchmark networks, and how their weights are drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"none": nn.Identity, "relu": nn.ReLU, "relu6": nn.ReLU6}


def conv_norm(
    source: int,
    target: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    *,
    groups: int = 1,
    activation: str = "none",
) -> nn.Sequential:
    """Convolution with "same" padding for odd kernels, batch normalisation, activation."""
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    conv = nn.Conv2d(source, target, size, stride, (size[0] // 2, size[1] // 2), groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(target), ACTIVATIONS[activation]())


class Classifier(nn.Module):
    """Global average pooling and a linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The network with weights that keep magnitudes through its depth (He et al. 2015a), in evaluation mode.

    The global random state is left as it was.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build()
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return module.eval()
