"""`Family`: the plug-in interface of model families. `tests/family_conformance.py` is the exam that each must pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import ConfigError, UnknownNameError
from .architecture import Architecture, Knob, KnobValue
from .layers import BlockForm, LayerBlock, LayerSpec, MapShape

if TYPE_CHECKING:
    from torch import nn


class Family(ABC):
    """A set of networks spanned by knobs.

    A family says which knobs exist, which of them matter given the others, and which layers result. Everything
    else (module, canonical form, sampling) follows from these. Its module must not import torch at the top.
    """

    name: str
    summary: str

    @abstractmethod
    def knobs(self) -> tuple[Knob, ...]:
        """The search space. A knob stands after every knob that decides whether it is active."""

    @abstractmethod
    def is_active(self, name: str, values: Mapping[str, KnobValue]) -> bool:
        """True when knob `name` changes the network, given the values of the knobs that decide this."""

    @abstractmethod
    def active_knobs(self, architecture: Architecture) -> tuple[str, ...]:
        """Every knob that `architecture` needs, also beyond the ranges of `knobs()`; other knobs are dead weight."""

    @abstractmethod
    def check(self, architecture: Architecture) -> None:
        """Raises `ConfigError` naming the knob and its allowed range: unknown, missing or out of range."""

    @abstractmethod
    def input_shape(self, architecture: Architecture, channels: int) -> MapShape:
        """(channels, height, width) of the network's input."""

    @abstractmethod
    def layers(self, architecture: Architecture, *, input_channels: int, classes: int) -> tuple[LayerSpec, ...]:
        """The network as values, in execution order; checks `architecture` first."""

    def blocks(self, architecture: Architecture, *, input_channels: int, classes: int) -> tuple[LayerBlock, ...]:
        """The layers in consecutive groups; families of recurring blocks give the same object again and again."""
        layers = self.layers(architecture, input_channels=input_channels, classes=classes)
        return (LayerBlock(BlockForm(layers, layers[-1].name, layers[-1].output_shape)),)

    def build(self, architecture: Architecture, *, input_channels: int, classes: int, seed: int = 0) -> nn.Module:
        """The untrained module with an attribute `input_shape`; the same arguments give the same weights."""
        from .network import LayerNetwork

        return LayerNetwork(self.layers(architecture, input_channels=input_channels, classes=classes), seed=seed)

    def canonicalise(self, architecture: Architecture) -> Architecture:
        """The same network without dead knobs, so that equal choices have equal digests."""
        active = set(self.active_knobs(architecture))
        if all(name in active for name, _ in architecture.knobs):
            return architecture
        return Architecture(self.name, tuple(item for item in architecture.knobs if item[0] in active))

    def sample(self, generator: np.random.Generator) -> Architecture:
        """A random canonical architecture: every active knob uniform over its values."""
        return self._draw(lambda knob: knob.values[int(generator.integers(len(knob.values)))])

    def middle(self) -> Architecture:
        """The canonical architecture of every active knob's middle value: what a bare family name stands for."""
        return self._draw(lambda knob: knob.values[len(knob.values) // 2])

    def _draw(self, choose: Callable[[Knob], KnobValue]) -> Architecture:
        values: dict[str, KnobValue] = {}
        for knob in self.knobs():
            if self.is_active(knob.name, values):
                values[knob.name] = choose(knob)
        return Architecture.of(self.name, values)

    def own(self, architecture: Architecture) -> dict[str, KnobValue]:
        """The knob values, once `architecture` is known to be of this family."""
        if architecture.family != self.name:
            raise ConfigError(f"{self.name} cannot build an architecture of family {architecture.family!r}")
        return architecture.values


def missing_knob(name: str, allowed: str) -> ConfigError:
    """The error for an active knob without a value; `allowed` says what it may be."""
    return ConfigError(f"knob {name} is missing", where=name, hint=f"allowed: {allowed}")


def unknown_knob(name: str, known: tuple[str, ...]) -> ConfigError:
    """The error for a knob that the family does not have, with near matches."""
    problem = UnknownNameError("knob", name, known)
    return ConfigError(problem.what, where=name, hint=problem.hint)
