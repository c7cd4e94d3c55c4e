"""`LayerNetwork`: the torch module of a tuple of layers, deterministic in (layers, seed)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ..common.errors import ModelError
from .layers import INPUT, LayerKind, LayerSpec, MapShape

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity, "relu": nn.ReLU, "relu6": nn.ReLU6, "sigmoid": nn.Sigmoid,
}  # fmt: skip


class ConvLayer(nn.Module):
    """Convolution, normalisation or bias, activation: one layer of the description."""

    def __init__(self, spec: LayerSpec, generator: torch.Generator) -> None:
        super().__init__()
        channels_in, channels_out = spec.input_shape[0], spec.output_shape[0]
        groups = channels_in if spec.kind is LayerKind.DEPTHWISE else 1
        # skip_init: the usual constructor would draw from the global RNG
        window = (spec.kernel, spec.stride, spec.padding)
        biased = spec.affine == "bias"
        conv = skip_init(nn.Conv2d, channels_in, channels_out, *window, groups=groups, bias=biased)
        self.conv = cast(nn.Conv2d, conv)
        nn.init.kaiming_normal_(self.conv.weight, generator=generator)
        if biased:
            nn.init.zeros_(cast(Tensor, self.conv.bias))
        self.norm = nn.BatchNorm2d(channels_out) if spec.affine == "norm" else nn.Identity()
        self.activation = _ACTIVATIONS[spec.activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class AddLayer(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class MulLayer(nn.Module):
    """A (N, C, H, W) map scaled by a (N, C, 1, 1) map."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * gate


class ZeroLayer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


class NormLayer(nn.Module):
    """Batch normalisation that follows no convolution, and its activation."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(spec.output_shape[0])
        self.activation = _ACTIVATIONS[spec.activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(x))


class LinearLayer(nn.Module):
    """Maps (N, C, 1, 1) to (N, classes)."""

    def __init__(self, spec: LayerSpec, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = cast(nn.Linear, skip_init(nn.Linear, spec.input_shape[0], spec.output_shape[0]))
        nn.init.normal_(self.linear.weight, std=spec.input_shape[0] ** -0.5, generator=generator)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


class LayerNetwork(nn.Module):
    """Runs `layers` in order; submodules carry the layers' names. The global random state is neither read nor changed.

    Takes float32 (N, C, H, W) of `input_shape`, returns the last layer's output, (N, classes) after a linear layer.

    Raises:
        ModelError: when a layer reads something that no earlier layer gives, or with another shape.
    """

    def __init__(self, layers: Sequence[LayerSpec], *, seed: int = 0) -> None:
        super().__init__()
        self.layers = tuple(layers)
        _check_wiring(self.layers)
        self.input_shape: MapShape = self.layers[0].input_shape
        generator = torch.Generator().manual_seed(seed)
        self.steps = nn.ModuleDict({layer.name: _module(layer, generator) for layer in self.layers})
        last_use = {name: index for index, layer in enumerate(self.layers) for name in layer.inputs}
        self._dead_after = [[n for n, last in last_use.items() if last == i] for i in range(len(self.layers))]

    def forward(self, x: Tensor) -> Tensor:
        values = {INPUT: x}
        for layer, dead in zip(self.layers, self._dead_after, strict=True):
            values[layer.name] = self.steps[layer.name](*(values[name] for name in layer.inputs))
            for name in dead:
                del values[name]
        return values[self.layers[-1].name]


def silence_residuals(network: LayerNetwork) -> None:
    """Sets the last scale of every residual branch to 0, so that training starts from the shorter network.

    Goyal et al. 2017 (arXiv:1706.02677), section 5.1. Not part of the plain initialisation, because zero-shot
    scores of an untrained network would not see these branches. A branch that ends in ReLU is left alone: at 0 it would
    pass no gradient.
    """
    for layer in network.layers:
        branch = network.steps[layer.inputs[0]] if layer.kind is LayerKind.ADD and layer.inputs[0] != INPUT else None
        if not isinstance(branch, ConvLayer) or not isinstance(branch.activation, nn.Identity):
            continue
        if isinstance(branch.norm, nn.BatchNorm2d):
            nn.init.zeros_(branch.norm.weight)


def _module(spec: LayerSpec, generator: torch.Generator) -> nn.Module:
    match spec.kind:
        case LayerKind.CONV | LayerKind.DEPTHWISE:
            return ConvLayer(spec, generator)
        case LayerKind.ADD:
            return AddLayer()
        case LayerKind.MUL:
            return MulLayer()
        case LayerKind.GLOBAL_AVERAGE_POOL:
            return nn.AdaptiveAvgPool2d(1)
        case LayerKind.AVERAGE_POOL:
            return nn.AvgPool2d(spec.kernel, spec.stride, spec.padding, count_include_pad=False)
        case LayerKind.BATCH_NORM:
            return NormLayer(spec)
        case LayerKind.ACTIVATION:
            return _ACTIVATIONS[spec.activation]()
        case LayerKind.ZERO:
            return ZeroLayer()
        case LayerKind.LINEAR:
            return LinearLayer(spec, generator)


def _check_wiring(layers: tuple[LayerSpec, ...]) -> None:
    if not layers:
        raise ModelError("a network needs at least one layer")
    shapes = {INPUT: layers[0].input_shape}
    for layer in layers:
        for name, shape in zip(layer.inputs, layer.input_shapes, strict=True):
            if shapes.get(name) != shape:
                raise ModelError(
                    f"reads {name!r} as {shape}, which is {shapes.get(name, 'not there yet')}",
                    where=f"layer {layer.name!r}",
                )
        if layer.name in shapes:
            raise ModelError("two layers have this name", where=f"layer {layer.name!r}")
        shapes[layer.name] = layer.output_shape
