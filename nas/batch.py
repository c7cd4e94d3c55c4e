"""Trials by the thousand: architectures drawn, costed and stored a generation at a time.

Optuna asks its storage about every knob of every trial, and its samplers read all trials before each. Where a trial
costs a fraction of a millisecond that is all there would be. Here a sampler of `batch_samplers` draws a generation, and
the record goes to Optuna in one transaction. Everything that is drawn follows from the seed, the number of the
generation and the trials of complete generations: a killed search goes on with what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from ..models.architecture import Architecture, Knob, KnobValue
from .batch_samplers import GENERATION, BatchSampler, IntArray, Members
from .results import TrialRecord
from .seeds import Stream, seed_for
from .space import Space, even_steps
from .study import Evaluation, Study

EvaluateMany = Callable[[Sequence[Architecture], int], Sequence[Evaluation]]
"""Evaluations of architectures whose first trial has the given index."""

_NEW_ATTEMPTS = 8  # a child that was tried before is changed again, this often


class Codec:
    """Architectures of a space as rows of positions in the values of its knobs; inactive knobs stand at 0."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.sizes: IntArray = np.array([len(knob.values) for knob in space.knobs])
        self._at = [{value: position for position, value in enumerate(knob.values)} for knob in space.knobs]
        self.distributions: dict[str, BaseDistribution] = {
            knob.name: _distribution(knob) for knob in space.knobs if len(knob.values) > 1
        }

    def architecture(self, row: IntArray) -> Architecture:
        chosen = {knob.name: knob.values[at] for knob, at in zip(self._space.knobs, row.tolist(), strict=True)}
        return self._space.chosen(chosen)

    def row(self, architecture: Architecture) -> IntArray:
        values = architecture.values
        return np.array(
            [
                at.get(values.get(knob.name, knob.values[0]), 0)
                for knob, at in zip(self._space.knobs, self._at, strict=True)
            ]
        )

    def params(self, architecture: Architecture) -> dict[str, KnobValue]:
        """What Optuna would have been asked for, in the order of the knobs."""
        values = architecture.values
        return {name: values[name] for name in self.distributions if name in values}


@dataclass
class _Lineage:
    """What complete generations leave to the next: parents, and everything that was tried."""

    sampler: BatchSampler
    codec: Codec
    signs: tuple[int, ...]
    constraints: Callable[[TrialRecord], Mapping[str, float]]
    parents: Members | None = None

    def __post_init__(self) -> None:
        self._tried: set[bytes] = set()

    def add(self, generation: Sequence[TrialRecord]) -> None:
        rows = np.array([self.codec.row(record.architecture) for record in generation])
        losses = np.array([record.values for record in generation]) * np.array(self.signs)
        over = [sum(max(limit, 0.0) for limit in self.constraints(record).values()) for record in generation]
        born = Members(rows, losses, np.array(over))
        before = self.parents if self.parents is not None else born.chosen(np.arange(0))
        self.parents = self.sampler.survivors(before, born)
        self._tried.update(row.tobytes() for row in rows)

    def draw(self, generator: np.random.Generator) -> list[Architecture]:
        """A generation, of architectures that were not tried before as far as the sampler finds any."""
        taken = set(self._tried)
        drawn: list[Architecture] = []
        for row in self._children(generator, GENERATION):
            architecture, key = self._decoded(row)
            for _ in range(_NEW_ATTEMPTS if key in taken else 0):
                architecture, key = self._decoded(self._children(generator, 1)[0])
                if key not in taken:
                    break
            taken.add(key)
            drawn.append(architecture)
        return drawn

    def _decoded(self, row: IntArray) -> tuple[Architecture, bytes]:
        architecture = self.codec.architecture(row)
        return architecture, self.codec.row(architecture).tobytes()

    def _children(self, generator: np.random.Generator, count: int) -> IntArray:
        sizes = self.codec.sizes
        if self.parents is None:
            return generator.integers(0, sizes, size=(count, len(sizes)))
        return self.sampler.children(generator, self.parents, sizes, count)


def run_batches(
    study: Study,
    space: Space,
    total: int,
    seed: int,
    sampler: BatchSampler,
    evaluate: EvaluateMany,
    constraints: Callable[[TrialRecord], Mapping[str, float]],
    done: Callable[[Sequence[TrialRecord]], None],
    first: Sequence[Architecture] = (),
) -> None:
    """Evaluates trials until `total` are finished; `done` hears of each generation once it is stored.

    `first` are the architectures of the first trials, in place of what the sampler draws.

    A kill loses the generation at work and nothing else.
    """
    signs = tuple(1 if direction == "minimize" else -1 for direction in study.directions)
    lineage = _Lineage(sampler, Codec(space), signs, constraints)
    for generation in _complete(study.records):
        lineage.add(generation)
    while len(study.records) < total:
        number, begun = divmod(len(study.records), GENERATION)
        drawn = lineage.draw(np.random.default_rng(seed_for(seed, Stream.BATCH, number)))
        given = first[number * GENERATION :][:GENERATION]
        drawn = [*given, *drawn[len(given) :]]
        todo = drawn[begun : begun + total - len(study.records)]
        evaluations = evaluate(todo, len(study.records))
        study.add(evaluations, [lineage.codec.params(found) for found in todo], lineage.codec.distributions)
        if len(study.records) % GENERATION == 0:
            lineage.add(study.records[-GENERATION:])
        done([found.record for found in evaluations])


def _complete(records: Sequence[TrialRecord]) -> Iterator[Sequence[TrialRecord]]:
    for start in range(0, len(records) - GENERATION + 1, GENERATION):
        yield records[start : start + GENERATION]


def _distribution(knob: Knob) -> BaseDistribution:
    """As `Space.suggest` describes the knob to Optuna."""
    spaced = even_steps(knob.values)
    if spaced is not None:
        return IntDistribution(spaced[0], spaced[1], step=spaced[2])
    return CategoricalDistribution(list(knob.values))
