"""How rugged the cost of a space is: random walks that climb the order of the knobs, and what the cost does meanwhile.

A walk begins at a random architecture of the lower half of every knob and raises, step by step, one random knob to the
next value of its order, until nothing can be raised; then another one begins. Where every knob's order is that of
cost, whatever the other knobs are, the cost never falls. A fall says that the order misleads a search there, and a
local minimum (the cost falls and rises again) that a search which climbs or descends along the order gets stuck.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.architecture import Architecture
from ..space import Space
from .costs import Sampler, TargetCosts, work_of
from .probes import Assignment, architecture_of, probe
from .rules import by_cost

NOTICEABLE = 0.001  # relative change of the cost below which it has not moved
STEPS = 1000


@dataclass(frozen=True, slots=True)
class Ruggedness:
    """Counts over all walks: steps, steps at which the cost fell, points lower than the ones before and after."""

    steps: int
    walks: int
    falls: int
    minima: int

    @property
    def falls_per_1000(self) -> float:
        return 1000 * self.falls / max(1, self.steps)

    @property
    def minima_per_1000(self) -> float:
        return 1000 * self.minima / max(1, self.steps)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "falls_per_1000": self.falls_per_1000, "minima_per_1000": self.minima_per_1000}


def ordered_by_work(space: Space, *, input_channels: int = 3, classes: int = 10, seed: int = 0) -> Space:
    """The space with every knob in the order of its multiply-accumulates: what can be had without a target."""
    macs = TargetCosts("work", lambda layers: work_of(layers)[0])
    sample = Sampler(space.family, macs, input_channels=input_channels, classes=classes)
    found = {line.knob.name: by_cost(line).knob.values for line in probe(space, sample, seed)}
    return replace(space, knobs=tuple(replace(k, values=found.get(k.name, k.values)) for k in space.knobs))


def ruggedness(space: Space, sample: Sampler, *, steps: int = STEPS, seed: int = 0) -> Ruggedness:
    """Walks of `steps` steps in all. What the target refuses counts neither as a fall nor as a minimum."""
    generator = np.random.default_rng(seed)
    counts = np.zeros(4, dtype=int)
    while counts[0] < steps:
        walk = list(climb(space, generator, steps - int(counts[0])))
        if len(walk) < 2:
            break  # a space without a choice
        counts += (len(walk) - 1, 1, *_count(sample.latencies(walk)))
    return Ruggedness(*counts.tolist())


def climb(space: Space, generator: np.random.Generator, steps: int) -> Iterator[Architecture]:
    """One walk of at most `steps` steps; a step that leaves the network as it is does not count."""
    values: Assignment = {
        knob.name: knob.values[int(generator.integers((len(knob.values) + 1) // 2))] for knob in space.knobs
    }
    last = architecture_of(space, values)
    yield last
    while steps > 0 and (names := _raisable(space, values)):
        name, following = names[int(generator.integers(len(names)))]
        values = {**values, name: following}
        if (found := architecture_of(space, values)) != last:
            last, steps = found, steps - 1
            yield last


def _raisable(space: Space, values: Assignment) -> list[tuple[str, Any]]:
    """The active knobs that are not at their last value, with the next one."""
    places = {knob.name: knob.values.index(values[knob.name]) for knob in space.knobs}
    return [
        (knob.name, knob.values[places[knob.name] + 1])
        for knob in space.knobs
        if places[knob.name] + 1 < len(knob.values) and space.family.is_active(knob.name, values)
    ]


def _count(latency_us: NDArray[np.float64]) -> tuple[int, int]:
    """Falls and strict local minima along one walk."""
    steps = np.diff(np.log(latency_us))
    fell, rose = steps < -NOTICEABLE, steps > NOTICEABLE
    return int(fell.sum()), int((fell[:-1] & rose[1:]).sum())
