"""Probing: the cost along one knob while everything else stands still, on several architectures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...models.architecture import Architecture, Knob, KnobValue
from ..space import Space
from .costs import Sample, Sampler

CONTEXTS = 8  # architectures that each knob is probed on
KIND_CONTEXTS = 20  # the same where values are kinds, whose order by cost depends on the architecture most
_POOL = 400  # assignments to find them in: a knob of the last stage is active in a quarter of a random space

Assignment = dict[str, KnobValue]
"""A value for every knob of a space, active or not."""


@dataclass(frozen=True, slots=True)
class Line:
    """One knob, probed. latency_us: (contexts, values), NaN where refused; work: (contexts, values, measures), see
    `Sample`; refusals: for each value the reason of its first refusal, or ""."""

    knob: Knob
    latency_us: NDArray[np.float64]
    work: NDArray[np.float64]
    refusals: tuple[str, ...]

    def only(self, values: tuple[KnobValue, ...]) -> Line:
        """The line over these of its values, in their order."""
        at = [self.knob.values.index(value) for value in values]
        knob = Knob(self.knob.name, values, self.knob.kind, self.knob.doc)
        return Line(knob, self.latency_us[:, at], self.work[:, at], tuple(self.refusals[i] for i in at))


def assignments(space: Space, seed: int) -> Iterator[Assignment]:
    """The middle, the first and the last value of every knob, then random ones."""
    yield {knob.name: knob.values[len(knob.values) // 2] for knob in space.knobs}
    yield {knob.name: knob.values[0] for knob in space.knobs}
    yield {knob.name: knob.values[-1] for knob in space.knobs}
    generator = np.random.default_rng(seed)
    for _ in range(_POOL):
        yield {knob.name: knob.values[int(generator.integers(len(knob.values)))] for knob in space.knobs}


def architecture_of(space: Space, values: Assignment) -> Architecture:
    """The canonical architecture of an assignment."""
    return space.family.canonicalise(Architecture.of(space.family.name, values))


def probe(space: Space, sample: Sampler, seed: int) -> list[Line]:
    """A line for every knob that has a choice; a knob that is never active has none."""
    pool = list(assignments(space, seed))
    lines = [_line(space, knob, pool, sample) for knob in space.knobs if len(knob.values) > 1]
    return [line for line in lines if line is not None]


def _line(space: Space, knob: Knob, pool: list[Assignment], sample: Sampler) -> Line | None:
    count = KIND_CONTEXTS if isinstance(knob.values[0], str) else CONTEXTS
    bases = [values for values in pool if space.family.is_active(knob.name, values)][:count]
    if not bases:
        return None
    rows = [[sample(architecture_of(space, {**base, knob.name: value})) for value in knob.values] for base in bases]
    latency = np.array([[found.latency_us for found in row] for row in rows])
    work = np.array([[found.work for found in row] for row in rows])
    return Line(knob, latency, work, tuple(_refusal([row[i] for row in rows]) for i in range(len(knob.values))))


def _refusal(column: list[Sample]) -> str:
    return next((found.refusal for found in column if found.refusal), "")
