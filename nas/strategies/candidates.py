"""Where a screen gets its candidates: many draws that cost an estimate each, and changes of what did well.

Whatever is handed out is inside the budget, so that neither a score nor a training is spent outside of it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...models.architecture import Architecture, Knob, KnobValue
from ..scoring import Cost
from ..seeds import Stream, seed_for
from ..session import Session
from ..space import Space
from .features import capacity

DRAWS_PER_TRIAL, MOST_DRAWS = 10, 2000
NEIGHBOURS = 12  # tried for each parent
ATTEMPTS = 50  # at a child that is new and inside the budget


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture inside the budget by its estimate."""

    architecture: Architecture
    cost: Cost


class Candidates:
    """The feasible candidates of one search; depends on nothing but its seed and configuration."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @cached_property
    def drawn(self) -> list[Candidate]:
        """Random networks inside the budget; costed when something is proposed first."""
        session = self._session
        draws = min(MOST_DRAWS, DRAWS_PER_TRIAL * session.config.trials)
        seeds = (seed_for(session.seed, Stream.CANDIDATES, index) for index in range(draws))
        return self._feasible(session.bench.space.sample(seed) for seed in seeds)

    def wide(self, known: Container[str]) -> Architecture | None:
        """The next draw that is not among the `known` digests: in turn as it came and by the work it does."""
        return next((found.architecture for found in self._in_turn if found.architecture.digest() not in known), None)

    def child(self, parents: Sequence[Architecture], known: Container[str], number: int) -> Architecture | None:
        """A new network inside the budget that differs from one of `parents` in one or two knobs."""
        random = np.random.default_rng(seed_for(self._session.seed, Stream.CHILDREN, number))
        for _ in range(ATTEMPTS if parents else 0):
            child = self._mutated(parents[int(random.integers(len(parents)))], random)
            if child.digest() not in known and self._feasible([child]):
                return child
        return None

    def around(self, parents: Sequence[Architecture], number: int) -> list[Candidate]:
        """Feasible networks that differ from one of `parents` in one or two knobs, a few for each."""
        random = np.random.default_rng(seed_for(self._session.seed, Stream.CHILDREN, number))
        return self._feasible(self._mutated(parent, random) for parent in parents for _ in range(NEIGHBOURS))

    def _mutated(self, parent: Architecture, random: np.random.Generator) -> Architecture:
        return mutated(self._session.bench.space, parent, random, changes=1 + int(random.integers(2)))

    @cached_property
    def _in_turn(self) -> list[Candidate]:
        if not self.drawn:
            return []
        by_work = np.argsort(-capacity([found.cost for found in self.drawn]), kind="stable")
        pairs = zip((self.drawn[i] for i in by_work), self.drawn, strict=True)
        return list({found.architecture.digest(): found for pair in pairs for found in pair}.values())

    def _feasible(self, architectures: Iterable[Architecture]) -> list[Candidate]:
        different = {architecture.digest(): architecture for architecture in architectures}
        costed = ((architecture, self._session.cost(architecture)) for architecture in different.values())
        hardware = self._session.budget.hardware()
        return [Candidate(found, cost) for found, cost in costed if cost is not None and cost.check(hardware).passed]


def mutated(space: Space, parent: Architecture, random: np.random.Generator, *, changes: int) -> Architecture:
    """`parent` with up to `changes` active knobs at other values; knobs that become active are drawn uniformly."""
    values = parent.values
    active = [knob for knob in space.knobs if knob.name in values and len(knob.values) > 1]
    picked = random.choice(len(active), size=min(changes, len(active)), replace=False) if active else []
    changed = {active[i].name: _other(active[i], values[active[i].name], random) for i in picked}

    def choose(knob: Knob) -> KnobValue:
        value = changed.get(knob.name, values.get(knob.name))
        return value if value in knob.values else knob.values[int(random.integers(len(knob.values)))]

    return space.draw(choose)


def _other(knob: Knob, value: KnobValue, random: np.random.Generator) -> KnobValue:
    others = [choice for choice in knob.values if choice != value]
    return others[int(random.integers(len(others)))]
