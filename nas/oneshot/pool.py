"""`FeasiblePool`: the architectures that a supernet is trained on, every one of them inside the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...common.errors import BudgetError
from ...models.architecture import Architecture
from ..space import Space

POOL = 256
TRIES_FOR_EACH = 40


@dataclass(frozen=True, slots=True)
class FeasiblePool:
    """Distinct architectures inside the budget, ordered by size: `smallest` and `largest` are the sandwich's ends.

    The cap is hard: not even the largest, which teaches the others, is outside of it.
    """

    members: tuple[Architecture, ...]

    @property
    def smallest(self) -> Architecture:
        return self.members[0]

    @property
    def largest(self) -> Architecture:
        return self.members[-1]

    def draw(self, generator: np.random.Generator) -> Architecture:
        return self.members[int(generator.integers(len(self.members)))]


def feasible_pool(
    space: Space, size_of: Callable[[Architecture], float | None], *, seed: int, count: int = POOL
) -> FeasiblePool:
    """Up to `count` random architectures of `space`; `size_of` gives the MACs of one, None outside of the budget.

    Half of them are drawn anew, half by changing single knobs of those found, so that a small feasible part of the
    space fills the pool too. The same seed gives the same pool.

    Raises:
        BudgetError: fewer than two of many draws are inside the budget.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, tuple[float, Architecture]] = {}
    for attempt in range(TRIES_FOR_EACH * count):
        if len(found) == count:
            break
        known = [architecture for _, architecture in found.values()]
        fresh = attempt % 2 == 0 or not known
        candidate = space.sample(int(rng.integers(2**62))) if fresh else neighbour(space, _any(rng, known), rng)
        if candidate.digest() in found:
            continue
        size = size_of(candidate)
        if size is not None:
            found[candidate.digest()] = (size, candidate)
    if len(found) < 2:
        raise BudgetError(
            f"{len(found)} of {TRIES_FOR_EACH * count} random architectures are inside the budget",
            hint="a larger budget, or a space with smaller values",
        )
    ordered = sorted(found.values(), key=lambda item: (item[0], item[1].digest()))
    return FeasiblePool(tuple(architecture for _, architecture in ordered))


def neighbour(space: Space, architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """One active knob with another value; knobs that this makes active are drawn."""
    values = architecture.values
    free = [knob for knob in space.knobs if knob.name in values and len(knob.values) > 1]
    knob = free[int(rng.integers(len(free)))]
    others = [value for value in knob.values if value != values[knob.name]]
    drawn = space.sample(int(rng.integers(2**62))).values
    changed = {**drawn, **values, knob.name: others[int(rng.integers(len(others)))]}
    known = {item.name: item for item in space.knobs}
    filled = {name: changed.get(name, item.values[int(rng.integers(len(item.values)))]) for name, item in known.items()}
    return space.family.canonicalise(Architecture.of(space.family.name, filled))


def _any(rng: np.random.Generator, known: list[Architecture]) -> Architecture:
    return known[int(rng.integers(len(known)))]
