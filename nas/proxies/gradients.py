"""The backward passes that several scores share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .trace import Product, Trace


@dataclass(frozen=True, slots=True)
class Jacobian:
    """Gradients of the sum of all outputs: `images` for each sample, (batch, inputs) float64; `heard[i]` says
    whether product i of the trace changes the output and depends on the input."""

    images: Tensor
    heard: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class LossGradients:
    """Gradients of the cross entropy of both halves of the minibatch, each a mean over its samples.

    `weights`: (layer weight, its two gradients) for every weight of a convolution or linear layer that has any;
    `maps`: (output of such a layer, gradient of the loss over all samples).
    """

    weights: tuple[tuple[Tensor, tuple[Tensor, Tensor]], ...]
    maps: tuple[tuple[Tensor, Tensor], ...]

    def mean(self) -> list[tuple[Tensor, Tensor]]:
        """Every weight with the gradient of the whole minibatch."""
        return [(weight, (first + second) / 2) for weight, (first, second) in self.weights]


def input_jacobian(trace: Trace) -> Jacobian:
    """One backward pass from the sum of all outputs to the images."""
    outputs = [product.output for product in trace.products]
    gradients = _gradients(trace.outputs.sum(), [trace.images, *outputs])
    images = gradients[0] if gradients[0] is not None else torch.zeros_like(trace.images)
    heard = tuple(
        gradient is not None and bool(gradient.any()) and bool(product.output.detach().any())
        for product, gradient in zip(trace.products, gradients[1:], strict=True)
    )
    return Jacobian(images.flatten(1).double(), heard)


def draw_labels(outputs: Tensor, seed: int) -> Tensor:
    """A class for every sample, uniform; `outputs` is (batch, classes)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(outputs.shape[1], (len(outputs),), generator=generator)


def loss_gradients(trace: Trace, labels: Tensor | None, seed: int) -> LossGradients:
    """Two backward passes. A network whose output is no (batch, classes) is judged on its flattened output."""
    logits = trace.outputs.flatten(1)
    classes = (draw_labels(logits, seed) if labels is None else labels).to(logits.device)
    losses = F.cross_entropy(logits, classes, reduction="none")
    weights, outputs = _distinct(trace.products), [product.output for product in trace.products]
    halves = [_gradients(half.mean(), [*weights, *outputs]) for half in losses.chunk(2)]
    pairs = list(zip([*weights, *outputs], *halves, strict=True))
    found = [(tensor, (first, second)) for tensor, first, second in pairs if first is not None and second is not None]
    kinds = {id(weight) for weight in weights}
    return LossGradients(
        tuple((weight, both) for weight, both in found if id(weight) in kinds),
        tuple((output.detach(), (a + b) / 2) for output, (a, b) in found if id(output) not in kinds),
    )


def _distinct(products: Sequence[Product]) -> list[Tensor]:
    """The weights, each once although layers may share it; a weight that is no leaf of the network is left out."""
    return list({id(p.weight): p.weight for p in products if p.weight.requires_grad}.values())


def _gradients(value: Tensor, of: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(value, list(of), retain_graph=True, allow_unused=True)
