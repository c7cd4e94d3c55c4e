"""What an architecture costs on a target, and how much it does: all that curation knows of either."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ...common.errors import UnsupportedError
from ...models.layers import reaches_output

if TYPE_CHECKING:
    from ...models.architecture import Architecture
    from ...models.family import Family
    from ...models.layers import LayerSpec

MEASURES = ("MACs", "weights", "map values", "layers")
LatencyOf = Callable[["tuple[LayerSpec, ...]"], float]


class CostModel(Protocol):
    """Costs of the architectures of a family on a target.

    lanes: channel counts that are multiples of it leave no lane of the target idle; None where none are known.
    """

    @property
    def target(self) -> str: ...
    @property
    def lanes(self) -> int | None: ...

    def latency_us(self, layers: tuple[LayerSpec, ...], /) -> float:
        """Raises `UnsupportedError` for a network that the target cannot run."""
        ...


@dataclass(frozen=True, slots=True)
class TargetCosts:
    """A `CostModel` from a function, such as the closed form of somebody's own chip."""

    target: str
    latency_us: LatencyOf
    lanes: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One architecture: latency (NaN where the target refuses it, with the reason) and what it does.

    work: multiply-accumulates, weights, values of all maps that a layer with weights produces ("activations" of
    Radosavovic et al., CVPR 2020, section 3.3) and number of such layers (linear regions grow with width as a power,
    with depth exponentially: Montúfar et al., NeurIPS 2014). No capacity is left uncounted because one of the four
    does not see it.
    """

    latency_us: float
    work: tuple[float, ...]
    refusal: str = ""


class Sampler:
    """Costs architectures of one family, each once."""

    def __init__(self, family: Family, costs: CostModel, *, input_channels: int, classes: int) -> None:
        self.family, self.costs = family, costs
        self._shape = {"input_channels": input_channels, "classes": classes}
        self._known: dict[Architecture, Sample] = {}

    @property
    def asked(self) -> int:
        """How many different architectures were costed."""
        return len(self._known)

    def __call__(self, architecture: Architecture) -> Sample:
        found = self._known.get(architecture)
        if found is None:
            found = self._known[architecture] = self._sample(architecture)
        return found

    def latencies(self, architectures: Iterable[Architecture]) -> NDArray[np.float64]:
        """Microseconds, NaN where the target refuses."""
        return np.array([self(architecture).latency_us for architecture in architectures])

    def macs(self, architectures: Iterable[Architecture]) -> NDArray[np.float64]:
        return np.array([self(architecture).work[0] for architecture in architectures])

    def _sample(self, architecture: Architecture) -> Sample:
        layers = self.family.layers(architecture, **self._shape)
        work = work_of(layers)
        if not reaches_output(layers):
            return Sample(math.nan, work, "the network's output sees nothing of its input")
        try:
            return Sample(self.costs.latency_us(layers), work)
        except UnsupportedError as error:
            return Sample(math.nan, work, error.what)


def work_of(layers: Iterable[LayerSpec]) -> tuple[float, ...]:
    """The measures of work of a `Sample`, in the order of `MEASURES`."""
    weighted = [layer for layer in layers if layer.weights]
    return (
        float(sum(layer.macs for layer in weighted)),
        float(sum(layer.weights for layer in weighted)),
        float(sum(prod(layer.output_shape) for layer in weighted)),
        float(len(weighted)),
    )
