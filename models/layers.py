"""Layers as plain values: what a network is built from and what its latency is estimated from. No torch here.

Shapes are (channels, height, width), batch 1. The input of a network is called "input", layers stand in
execution order, and the last one is the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import TypeAlias

from ..common.errors import ModelError

MapShape: TypeAlias = tuple[int, int, int]
INPUT = "input"
ACTIVATIONS = ("none", "relu", "relu6")


class LayerKind(StrEnum):
    """CONV and DEPTHWISE include batch normalisation and activation; LINEAR has a bias and reads a (C, 1, 1) map."""

    CONV = "conv"
    DEPTHWISE = "depthwise"
    ADD = "add"
    GLOBAL_AVERAGE_POOL = "global_average_pool"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer. `inputs` name earlier layers or "input"; both inputs of an addition have `input_shape`."""

    name: str
    kind: LayerKind
    inputs: tuple[str, ...]
    input_shape: MapShape
    output_shape: MapShape
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    activation: str = "none"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ModelError(problem, where=f"layer {self.name!r}")

    def _problem(self) -> str | None:
        if min(*self.input_shape, *self.output_shape, self.kernel, self.stride) < 1 or self.padding < 0:
            return f"empty map or window: {self.input_shape} to {self.output_shape}, kernel {self.kernel}"
        if self.activation not in ACTIVATIONS:
            return f"activation {self.activation!r} is none of {', '.join(ACTIVATIONS)}"
        if len(self.inputs) != (2 if self.kind is LayerKind.ADD else 1):
            return f"{self.kind} cannot have {len(self.inputs)} inputs"
        wanted = self._expected_output()
        return None if self.output_shape == wanted else f"{self.kind} gives {wanted}, not {self.output_shape}"

    def _expected_output(self) -> MapShape:
        channels, height, width = self.input_shape
        match self.kind:
            case LayerKind.ADD:
                return self.input_shape
            case LayerKind.GLOBAL_AVERAGE_POOL:
                return channels, 1, 1
            case LayerKind.LINEAR:
                return self.output_shape[0], 1, 1
            case LayerKind.CONV | LayerKind.DEPTHWISE:
                kept = channels if self.kind is LayerKind.DEPTHWISE else self.output_shape[0]
                height, width = ((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in (height, width))
                return kept, height, width

    @property
    def weights(self) -> int:
        """Multiplicative weights, without biases and batch normalisation (which folds into them)."""
        fan_in = 1 if self.kind is LayerKind.DEPTHWISE else self.input_shape[0]
        windowed = self.kind in (LayerKind.CONV, LayerKind.DEPTHWISE, LayerKind.LINEAR)
        return self.output_shape[0] * fan_in * self.kernel**2 if windowed else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input."""
        return self.weights * prod(self.output_shape[1:])


class LayerBuilder:
    """Appends layers, each to the output of the one before, and keeps track of the shapes."""

    def __init__(self, input_shape: MapShape) -> None:
        self.shape = input_shape
        self.last = INPUT
        self._layers: list[LayerSpec] = []

    def conv(self, name: str, channels: int, *, kernel: int = 1, stride: int = 1, activation: str = "none") -> None:
        """Convolution with "same" padding (odd kernels), batch normalisation and activation."""
        self._window(name, LayerKind.CONV, channels, kernel, stride, activation)

    def depthwise(self, name: str, *, kernel: int, stride: int = 1, activation: str = "none") -> None:
        self._window(name, LayerKind.DEPTHWISE, self.shape[0], kernel, stride, activation)

    def add(self, name: str, other: str) -> None:
        """The residual sum of the current output and the layer `other` of the same shape."""
        self._append(LayerSpec(name, LayerKind.ADD, (self.last, other), self.shape, self.shape))

    def classifier(self, classes: int) -> None:
        """Global average pooling and a linear layer."""
        pooled = (self.shape[0], 1, 1)
        self._append(LayerSpec("pool", LayerKind.GLOBAL_AVERAGE_POOL, (self.last,), self.shape, pooled))
        self._append(LayerSpec("classifier", LayerKind.LINEAR, (self.last,), pooled, (classes, 1, 1)))

    def layers(self) -> tuple[LayerSpec, ...]:
        return tuple(self._layers)

    def _window(self, name: str, kind: LayerKind, channels: int, kernel: int, stride: int, activation: str) -> None:
        padding = kernel // 2
        height, width = ((n + 2 * padding - kernel) // stride + 1 for n in self.shape[1:])
        shape = (channels, height, width)
        self._append(LayerSpec(name, kind, (self.last,), self.shape, shape, kernel, stride, padding, activation))

    def _append(self, layer: LayerSpec) -> None:
        self._layers.append(layer)
        self.last, self.shape = layer.name, layer.output_shape
