"""Scores of the loss gradient at initialisation, on a logarithmic scale.

Forms as in Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, over the weights of
convolutions and linear layers. None of them sees which operators are hidden behind batch normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from .base import proxy
from .gradients import draw_labels
from .subject import Subject
from .trace import buffer_copies, leaf_weights, seeded, training_mode

GRASP_IMAGES = 8  # second derivatives cost four times a backward pass, so they look at fewer samples


def _log_sum(parts: Iterable[float]) -> float:
    total = math.fsum(parts)
    return math.log(total) if total > 0 else -math.inf


@proxy("grad-norm", 'Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021')
def grad_norm(subject: Subject) -> float:
    """Logarithm of the sum over layers of the norm of the loss gradient."""
    return _log_sum(float(gradient.norm()) for _, gradient in subject.loss_gradients.mean())


@proxy("snip", 'Lee et al., "SNIP", ICLR 2019')
def snip(subject: Subject) -> float:
    """Logarithm of the summed sensitivity of the loss to each weight, |weight × gradient|."""
    return _log_sum(
        float((weight.detach() * gradient).abs().sum()) for weight, gradient in subject.loss_gradients.mean()
    )


@proxy("fisher", 'Turner et al., "BlockSwap", ICLR 2020, as Abdelfattah et al. use it')
def fisher(subject: Subject) -> float:
    """Logarithm of the summed sensitivity of the loss to each channel, (activation × gradient)²."""
    return _log_sum(_channel_sensitivity(output * gradient) for output, gradient in subject.loss_gradients.maps)


def _channel_sensitivity(product: Tensor) -> float:
    """Of (N, C, H, W), summed over positions before squaring; other ranks have one position per value."""
    channels = product.flatten(2).sum(2) if product.dim() == 4 else product
    return float(0.5 * channels.square().mean(0).sum())


@proxy("zico", 'Li et al., "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients", ICLR 2023')
def zico(subject: Subject) -> float:
    """Sum over layers of the logarithm of mean over deviation of |gradient|, between halves of the minibatch."""
    layers = [_steadiness(first, second) for _, (first, second) in subject.loss_gradients.weights]
    live = [math.log(value) for value in layers if value > 0]
    return math.fsum(live) if live else -math.inf


def _steadiness(first: Tensor, second: Tensor) -> float:
    """Summed ratio of mean to standard deviation of two absolute gradients; weights that never change count nothing."""
    a, b = first.abs(), second.abs()
    deviation = (a - b).abs() / 2
    moving = deviation > 0
    return float(((a + b)[moving] / 2 / deviation[moving]).sum())


@proxy("grasp", 'Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR 2020')
def grasp(subject: Subject) -> float:
    """Signed logarithm of −Σ weight × (Hessian × gradient): what keeps the gradient flowing.

    A convolution before batch normalisation does not care for the scale of its weights, so there the sum is the
    squared gradient norm; only other layers make the two scores differ.
    """
    images = subject.inputs[:GRASP_IMAGES]
    weights = leaf_weights(subject.module, images)
    state = {**weights, **buffer_copies(subject.module, images)}
    with training_mode(subject.module), seeded(subject.seed, images.device):
        logits = functional_call(subject.module, state, images).flatten(1)
    labels = subject.labels if subject.labels is not None else draw_labels(logits, subject.seed)
    loss = F.cross_entropy(logits, labels[: len(images)].to(logits.device))
    return _signed_log(-_curvature(loss, [w for w in weights.values() if w.dim() > 1]))


def _curvature(loss: Tensor, weights: list[Tensor]) -> float:
    """Σ weight × (Hessian × gradient) by one more derivative of gradient · (gradient, held constant)."""
    gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    found = [gradient for gradient in gradients if gradient is not None]
    if not found:
        return math.nan
    product = torch.stack([(gradient * gradient.detach()).sum() for gradient in found]).sum()
    turned = torch.autograd.grad(product, weights, allow_unused=True)
    return math.fsum(float((w.detach() * t).sum()) for w, t in zip(weights, turned, strict=True) if t is not None)


def _signed_log(value: float) -> float:
    """Odd, monotone and logarithmic beyond 1e-6, for a quantity that may have either sign."""
    return math.asinh(value * 1e6)
