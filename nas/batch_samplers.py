"""Samplers that draw a generation of architectures at once, as rows of knob positions: for trials by the thousand.

What they know is the generations before, in the order of the trials, so that a search goes on after a kill with what
it would have drawn. `random`; `evolution`: Real et al. 2019 (arXiv:1802.01548), the best of a few of the youngest, one
knob changed; `nsga2`: Deb et al. 2002 (doi:10.1109/4235.996017), with its rule that less violation wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..common.registry import Registry

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float64]

GENERATION = 100
TOURNAMENT = 5
CROSSOVER = 0.9  # share of children that have two parents


@dataclass(frozen=True, slots=True)
class Members:
    """Architectures that were tried: knob positions [n, knobs], losses [n, objectives], violations [n], all to be
    small. A violation of zero keeps every budget."""

    positions: IntArray
    losses: FloatArray
    violations: FloatArray

    def __len__(self) -> int:
        return len(self.positions)

    def joined(self, other: Members) -> Members:
        return Members(
            np.concatenate([self.positions, other.positions]),
            np.concatenate([self.losses, other.losses]),
            np.concatenate([self.violations, other.violations]),
        )

    def chosen(self, rows: IntArray) -> Members:
        return Members(self.positions[rows], self.losses[rows], self.violations[rows])


class BatchSampler(Protocol):
    def survivors(self, before: Members, born: Members) -> Members:
        """The parents of the next generation."""
        ...

    def children(self, generator: np.random.Generator, parents: Members, sizes: IntArray, count: int) -> IntArray:
        """`count` rows of positions below `sizes`, [count, knobs]."""
        ...


class RandomBatches:
    """Uniform over all knobs: the yardstick."""

    def survivors(self, before: Members, born: Members) -> Members:
        return born

    def children(self, generator: np.random.Generator, parents: Members, sizes: IntArray, count: int) -> IntArray:
        return generator.integers(0, sizes, size=(count, len(sizes)))


class AgeingBatches:
    """The parents are the latest generation that kept the budgets, or what came nearest; for one objective."""

    def survivors(self, before: Members, born: Members) -> Members:
        kept = born.chosen(np.flatnonzero(born.violations <= 0))
        both = before.joined(kept) if len(kept) or len(before) else born
        return both.chosen(np.arange(max(0, len(both) - GENERATION), len(both)))

    def children(self, generator: np.random.Generator, parents: Members, sizes: IntArray, count: int) -> IntArray:
        entrants = generator.integers(0, len(parents), size=(count, min(TOURNAMENT, len(parents))))
        standing = np.argsort(np.lexsort((parents.losses[:, 0], parents.violations)))
        winners = entrants[np.arange(count), np.argmin(standing[entrants], axis=1)]
        return mutated(generator, parents.positions[winners], sizes, one=True)


class NondominatedBatches:
    """Binary tournaments by front and crowding, uniform crossover, each knob changed once in a child on average."""

    def survivors(self, before: Members, born: Members) -> Members:
        both = before.joined(born)
        return both.chosen(crowded_order(both)[:GENERATION])

    def children(self, generator: np.random.Generator, parents: Members, sizes: IntArray, count: int) -> IntArray:
        # parents are in the order of front and crowding, so that the smaller row wins a tournament
        pairs = generator.integers(0, len(parents), size=(2, count, 2)).min(axis=2)
        mother, father = parents.positions[pairs[0]], parents.positions[pairs[1]]
        swapped = generator.random(mother.shape) < 0.5
        crossed = generator.random((count, 1)) < CROSSOVER
        return mutated(generator, np.where(swapped & crossed, father, mother), sizes, one=False)


def mutated(generator: np.random.Generator, rows: IntArray, sizes: IntArray, *, one: bool) -> IntArray:
    """Rows with one open knob at another position, or each with a chance of one in the number of open knobs."""
    open_knobs = np.flatnonzero(sizes > 1)
    changed = rows.copy()
    if not len(open_knobs):
        return changed
    if one:
        hit = np.zeros(rows.shape, dtype=bool)
        hit[np.arange(len(rows)), generator.choice(open_knobs, size=len(rows))] = True
    else:
        hit = (generator.random(rows.shape) < 1 / len(open_knobs)) & (sizes > 1)
    shift = generator.integers(1, np.maximum(sizes, 2), size=rows.shape)
    changed[hit] = ((rows + shift) % sizes)[hit]
    return changed


def crowded_order(members: Members) -> IntArray:
    """Rows from best to worst: less violation, then earlier front, then more room around."""
    front = np.zeros(len(members), dtype=np.int64)
    room = np.zeros(len(members))
    kept = np.flatnonzero(members.violations <= 0)
    number = 0
    while len(kept):
        best = kept[first_front(members.losses[kept])]
        front[best], room[best] = number, crowding(members.losses[best])
        kept, number = np.setdiff1d(kept, best), number + 1
    return np.lexsort((-room, front, np.maximum(members.violations, 0)))


def first_front(losses: FloatArray) -> IntArray:
    """Rows of one or two losses that no other row dominates, in rising order."""
    last = losses[:, -1]
    order = np.lexsort((last, losses[:, 0]))
    lowest = np.minimum.accumulate(last[order])
    before = np.concatenate([[np.inf], lowest[:-1]])
    starts = np.concatenate([[True], losses[order][1:, 0] > losses[order][:-1, 0]])
    group = np.cumsum(starts) - 1
    bar = before[starts][group]  # the lowest last loss among rows with a smaller first one
    least = last[order][starts][group]  # within a group of equal first losses the lowest stands first
    return np.sort(order[(last[order] < bar) & (last[order] == least)])


def crowding(losses: FloatArray) -> FloatArray:
    """Sum over objectives of the distance between a row's neighbours; infinite at the ends."""
    found = np.zeros(len(losses))
    for values in losses.T:
        order = np.argsort(values, kind="stable")
        spread = values[order[-1]] - values[order[0]]
        gaps = np.full(len(values), np.inf)
        gaps[1:-1] = (values[order[2:]] - values[order[:-2]]) / spread if spread > 0 else 0.0
        found[order] += gaps
    return found


BATCH_SAMPLERS: Registry[BatchSampler] = Registry(
    "batch sampler",
    {"random": RandomBatches(), "evolution": AgeingBatches(), "nsga2": NondominatedBatches()},
)
