"""Layers as plain values: what a network is built from and what its latency is estimated from. No torch here.

Shapes are (channels, height, width), batch 1. The input of a network is called "input", layers stand in
execution order, and the last one is the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from math import prod
from typing import TypeAlias

from ..common.errors import ModelError

MapShape: TypeAlias = tuple[int, int, int]
INPUT = "input"
ACTIVATIONS = ("none", "relu", "relu6", "sigmoid")
AFFINES = ("norm", "bias", "none")


class LayerKind(StrEnum):
    """CONV and DEPTHWISE end in `affine` and `activation`; LINEAR has a bias and reads a (C, 1, 1) map.

    MUL scales a map by a (C, 1, 1) map, its second input. AVERAGE_POOL leaves padding out of its means. ZERO
    multiplies by zero: NAS-Bench-201's "none", which computes nothing but is part of the network.
    """

    CONV = "conv"
    DEPTHWISE = "depthwise"
    ADD = "add"
    MUL = "mul"
    GLOBAL_AVERAGE_POOL = "global_average_pool"
    AVERAGE_POOL = "average_pool"
    LINEAR = "linear"
    BATCH_NORM = "batch_norm"
    ACTIVATION = "activation"
    ZERO = "zero"


WINDOWED = (LayerKind.CONV, LayerKind.DEPTHWISE)
_BINARY = (LayerKind.ADD, LayerKind.MUL)


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer. `inputs` name earlier layers or "input"; both inputs of an addition have `input_shape`.

    affine: what follows the products of a convolution: batch normalisation ("norm"), a bias, or nothing ("none").
    """

    name: str
    kind: LayerKind
    inputs: tuple[str, ...]
    input_shape: MapShape
    output_shape: MapShape
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    activation: str = "none"
    affine: str = "norm"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ModelError(problem, where=f"layer {self.name!r}")

    def _problem(self) -> str | None:
        if min(*self.input_shape, *self.output_shape, self.kernel, self.stride) < 1 or self.padding < 0:
            return f"empty map or window: {self.input_shape} to {self.output_shape}, kernel {self.kernel}"
        if self.activation not in ACTIVATIONS:
            return f"activation {self.activation!r} is none of {', '.join(ACTIVATIONS)}"
        if self.affine not in AFFINES:
            return f"affine {self.affine!r} is none of {', '.join(AFFINES)}"
        if len(self.inputs) != (2 if self.kind in _BINARY else 1):
            return f"{self.kind} cannot have {len(self.inputs)} inputs"
        wanted = self._expected_output()
        return None if self.output_shape == wanted else f"{self.kind} gives {wanted}, not {self.output_shape}"

    def _expected_output(self) -> MapShape:
        channels = self.input_shape[0]
        match self.kind:
            case LayerKind.ADD | LayerKind.MUL | LayerKind.BATCH_NORM | LayerKind.ACTIVATION | LayerKind.ZERO:
                return self.input_shape
            case LayerKind.GLOBAL_AVERAGE_POOL:
                return channels, 1, 1
            case LayerKind.LINEAR:
                return self.output_shape[0], 1, 1
            case LayerKind.CONV | LayerKind.DEPTHWISE | LayerKind.AVERAGE_POOL:
                kept = self.output_shape[0] if self.kind is LayerKind.CONV else channels
                return kept, *window_output(self.input_shape, self.kernel, self.stride, self.padding)

    @property
    def input_shapes(self) -> tuple[MapShape, ...]:
        """The shape of each input, in order."""
        if self.kind is LayerKind.MUL:
            return self.input_shape, (self.input_shape[0], 1, 1)
        return (self.input_shape,) * len(self.inputs)

    @property
    def weights(self) -> int:
        """Multiplicative weights, without biases and batch normalisation (which folds into them)."""
        fan_in = 1 if self.kind is LayerKind.DEPTHWISE else self.input_shape[0]
        windowed = self.kind in WINDOWED or self.kind is LayerKind.LINEAR
        return self.output_shape[0] * fan_in * self.kernel**2 if windowed else 0

    @property
    def parameters(self) -> int:
        """Trainable values: weights, biases, and scale and shift of normalisations."""
        if self.kind is LayerKind.LINEAR:
            return self.weights + self.output_shape[0]
        if self.kind is LayerKind.BATCH_NORM:
            return 2 * self.output_shape[0]
        per_channel = {"norm": 2, "bias": 1, "none": 0}[self.affine] if self.kind in WINDOWED else 0
        return self.weights + per_channel * self.output_shape[0]

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input."""
        return self.weights * prod(self.output_shape[1:])


def reaches_output(layers: Sequence[LayerSpec]) -> bool:
    """False for a network whose output sees nothing of its input but zeros."""
    reached = {INPUT}
    for layer in layers:
        if layer.kind is not LayerKind.ZERO and reached.intersection(layer.inputs):
            reached.add(layer.name)
    return layers[-1].name in reached


def window_output(shape: MapShape, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Height and width of what a window leaves of a map, incomplete windows dropped."""
    height, width = ((n + 2 * padding - kernel) // stride + 1 for n in shape[1:])
    return height, width


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class BlockForm:
    """The layers of a block whatever it is called and whatever comes before it: their names are what follows the
    block's name, and what they read from outside is called "input". A form equals only itself, so that what is
    derived of it (operators, features) can be kept beside it without comparing layers."""

    layers: tuple[LayerSpec, ...]
    last: str
    shape: MapShape
    """Name and shape of what the next block reads."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LayerBlock:
    """A form in its place in a network: the block's name, and the layer that takes the place of the form's input.
    It equals only itself, as a form does; families give the same object again and again."""

    form: BlockForm
    name: str = ""
    before: str = INPUT

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """The layers under the names that they have in the network."""
        return _named_layers(self) if self.name or self.before != INPUT else self.form.layers

    @property
    def last(self) -> str:
        """Name of what the next block reads."""
        return self.name + self.form.last

    @property
    def shape(self) -> MapShape:
        """Shape of what the next block reads."""
        return self.form.shape


@lru_cache(maxsize=16384)
def _named_layers(block: LayerBlock) -> tuple[LayerSpec, ...]:
    inside = {layer.name: block.name + layer.name for layer in block.form.layers} | {INPUT: block.before}
    return tuple(
        replace(layer, name=block.name + layer.name, inputs=tuple(inside[name] for name in layer.inputs))
        for layer in block.form.layers
    )


class LayerBuilder:
    """Appends layers, each to the output of the one before, and keeps track of the shapes.

    `rewind` moves back to an earlier layer, so that the next one branches off there. `sources` are the names, all of
    `input_shape`, that a block in the middle of a network may read.
    """

    def __init__(self, input_shape: MapShape, sources: tuple[str, ...] = (INPUT,)) -> None:
        self.shape = input_shape
        self.last = sources[-1]
        self._layers: list[LayerSpec] = []
        self._shapes: dict[str, MapShape] = dict.fromkeys(sources, input_shape)

    def conv(
        self, name: str, channels: int, *, kernel: int = 1, stride: int = 1, activation: str = "none",
        affine: str = "norm",
    ) -> None:  # fmt: skip
        """Convolution with "same" padding (odd kernels), batch normalisation (or `affine`) and activation."""
        self._window(name, LayerKind.CONV, channels, kernel, stride, activation, affine)

    def depthwise(self, name: str, *, kernel: int, stride: int = 1, activation: str = "none") -> None:
        self._window(name, LayerKind.DEPTHWISE, self.shape[0], kernel, stride, activation, "norm")

    def average_pool(self, name: str, *, kernel: int, stride: int = 1, padding: int = 0) -> None:
        shape = (self.shape[0], *window_output(self.shape, kernel, stride, padding))
        self._append(LayerSpec(name, LayerKind.AVERAGE_POOL, (self.last,), self.shape, shape, kernel, stride, padding))

    def activation(self, name: str, activation: str) -> None:
        """An activation that belongs to no convolution, such as the first step of a pre-activation block."""
        spec = LayerSpec(name, LayerKind.ACTIVATION, (self.last,), self.shape, self.shape, activation=activation)
        self._append(spec)

    def batch_norm(self, name: str, *, activation: str = "none") -> None:
        spec = LayerSpec(name, LayerKind.BATCH_NORM, (self.last,), self.shape, self.shape, activation=activation)
        self._append(spec)

    def zero(self, name: str) -> None:
        self._append(LayerSpec(name, LayerKind.ZERO, (self.last,), self.shape, self.shape))

    def add(self, name: str, other: str) -> None:
        """The residual sum of the current output and the layer `other` of the same shape."""
        self._append(LayerSpec(name, LayerKind.ADD, (self.last, other), self.shape, self.shape))

    def sum(self, name: str, terms: tuple[str, ...]) -> None:
        """The sum of some layers, two at a time; a single term stays as it is."""
        self.rewind(terms[0])
        for number, term in enumerate(terms[1:], start=1):
            self.add(name if number == len(terms) - 1 else f"{name}_{number}", term)

    def squeeze_excite(self, name: str, channels: int) -> None:
        """Scales every channel by a function of all channel means (Hu et al. 2018, arXiv:1709.01507, section 3)."""
        scaled, width = self.last, self.shape[0]
        pooled = (width, 1, 1)
        self._append(LayerSpec(f"{name}_pool", LayerKind.GLOBAL_AVERAGE_POOL, (scaled,), self.shape, pooled))
        self.conv(f"{name}_reduce", channels, activation="relu", affine="bias")
        self.conv(f"{name}_expand", width, activation="sigmoid", affine="bias")
        shape = self._shapes[scaled]
        self._append(LayerSpec(f"{name}_scale", LayerKind.MUL, (scaled, self.last), shape, shape))

    def classifier(self, classes: int) -> None:
        """Global average pooling and a linear layer."""
        pooled = (self.shape[0], 1, 1)
        self._append(LayerSpec("pool", LayerKind.GLOBAL_AVERAGE_POOL, (self.last,), self.shape, pooled))
        self._append(LayerSpec("classifier", LayerKind.LINEAR, (self.last,), pooled, (classes, 1, 1)))

    def rewind(self, name: str) -> None:
        """Makes the layer `name` (or "input") the one that the next layer reads."""
        self.last, self.shape = name, self._shapes[name]

    def layers(self) -> tuple[LayerSpec, ...]:
        return tuple(self._layers)

    def form(self) -> BlockForm:
        return BlockForm(self.layers(), self.last, self.shape)

    def block(self) -> LayerBlock:
        """The layers as a block under the names that they have."""
        return LayerBlock(self.form())

    def _window(
        self, name: str, kind: LayerKind, channels: int, kernel: int, stride: int, activation: str, affine: str
    ) -> None:
        padding = kernel // 2
        shape = (channels, *window_output(self.shape, kernel, stride, padding))
        window = (kernel, stride, padding)
        self._append(LayerSpec(name, kind, (self.last,), self.shape, shape, *window, activation, affine))

    def _append(self, layer: LayerSpec) -> None:
        self._layers.append(layer)
        self._shapes[layer.name] = layer.output_shape
        self.last, self.shape = layer.name, layer.output_shape
