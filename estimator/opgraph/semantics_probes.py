"""Tiny networks whose latencies tell what a runtime does with dead, equal and empty operators.

Every question compares a probe with two references: one in which the doubtful operator is absent and one in which it
certainly runs. The probe is closer to one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from .graph import OperatorGraph, OperatorNode
from .operator import Kind, Operator, Window
from .semantics import Semantics
from .sequential import Answer, Interview, Plan, Prepare

_CHANNELS, _EXTENT = 32, 56


@dataclass(frozen=True, slots=True)
class Question:
    """True when `probe` takes about as long as `present`, false when about as long as `absent`."""

    meaning: str
    probe: str
    absent: str
    present: str

    @property
    def weights(self) -> dict[str, float]:
        weights = {self.probe: 1.0}
        for reference in (self.absent, self.present):
            weights[reference] = weights.get(reference, 0.0) - 0.5
        return weights


QUESTIONS: Mapping[str, Question] = {
    "runs_unused": Question("an operator whose result nobody reads runs", "unused", "alone", "both"),
    "runs_dead_ends": Question("an operator whose result is multiplied by zero runs", "dead_end", "alone_zero", "both"),
    "runs_zero_fed": Question("an operator that sees only zeros runs", "zero_fed", "alone_zero", "both"),
    "runs_equal_twice": Question("two equal operators of one input both run", "equal", "pool", "two_pools"),
    "runs_identities": Question("operators that change nothing cost as much as copies", "identities", "alone", "relus"),
}
"""What is asked of a device, by the name of the answer."""


@dataclass(frozen=True, slots=True)
class SemanticsVerdict:
    """Answers by name; `semantics` is None when a question that decides it stayed open."""

    answers: Mapping[str, Answer]

    @property
    def semantics(self) -> Semantics | None:
        backward, forward = self.answers["runs_dead_ends"].holds, self.answers["runs_zero_fed"].holds
        if backward is None or forward is None:
            return None
        return _SEMANTICS[backward, forward]

    @property
    def merges_equal(self) -> bool | None:
        """Whether the graph that runs is that of `rewrite.merge_equal`."""
        twice = self.answers["runs_equal_twice"].holds
        return None if twice is None else not twice

    def as_dict(self) -> dict[str, object]:
        found = {
            name: {"holds": answer.holds, "mean": answer.mean, "half_width": answer.half_width, "rounds": answer.rounds}
            for name, answer in self.answers.items()
        }
        return {"semantics": None if self.semantics is None else str(self.semantics), "answers": found}


_SEMANTICS = {
    (True, True): Semantics.NOMINAL,
    (False, True): Semantics.BACKWARD,
    (True, False): Semantics.FORWARD,
    (False, False): Semantics.LIVE,
}


def find_semantics(prepare: Prepare, *, plan: Plan | None = None, seed: int = 0) -> SemanticsVerdict:
    """Asks the device that `prepare` compiles for; a few hundred runs of networks of some milliseconds at most."""
    interview = Interview.of(probe_networks(), prepare, seed=seed)
    return SemanticsVerdict({name: interview.ask(question.weights, plan) for name, question in QUESTIONS.items()})


def probe_networks(channels: int = _CHANNELS, extent: int = _EXTENT) -> dict[str, OperatorGraph]:
    """The networks of all questions: one map of `channels` × `extent` × `extent` in, one out."""
    build = _Probes((1, channels, extent, extent))
    conv, pool, relu, zero = build.conv(), build.pool(), build.relu(), build.zero()
    first = ("first", conv, ("x",))
    second = ("second", conv, ("x",))
    return {
        "alone": build.graph(first),
        "alone_zero": build.graph(first, ("zero", zero, ("x",)), ("sum", build.add(), ("first", "zero"))),
        "both": build.graph(first, second, ("sum", build.add(), ("first", "second"))),
        "unused": build.graph(second, first),
        "dead_end": build.graph(
            first, second, ("zero", zero, ("second",)), ("sum", build.add(), ("first", "zero"))
        ),
        "zero_fed": build.graph(
            first, ("zero", zero, ("x",)), ("second", conv, ("zero",)), ("sum", build.add(), ("first", "second"))
        ),
        "pool": build.graph(("pool", pool, ("x",)), ("sum", build.add(), ("pool", "pool"))),
        "equal": build.graph(
            ("pool", pool, ("x",)), ("again", pool, ("x",)), ("sum", build.add(), ("pool", "again"))
        ),
        "two_pools": build.graph(
            ("relu", relu, ("x",)), ("pool", pool, ("x",)), ("again", pool, ("relu",)),
            ("sum", build.add(), ("pool", "again")),
        ),
        "identities": build.chain(first, Operator(Kind.COPY, (build.shape,), build.shape)),
        "relus": build.chain(first, Operator(Kind.TANH, (build.shape,), build.shape)),
    }  # fmt: skip


class _Probes:
    """Operators that keep one map's shape."""

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.shape = shape

    def conv(self) -> Operator:
        channels = self.shape[1]
        weights = ((channels, channels, 3, 3), (channels,))
        return Operator(Kind.CONV, (self.shape,), self.shape, Window.square(3, 1, 1), weights)

    def pool(self) -> Operator:
        return Operator(Kind.AVERAGE_POOL, (self.shape,), self.shape, Window.square(7, 1, 3))

    def relu(self) -> Operator:
        return Operator(Kind.RELU, (self.shape,), self.shape)

    def zero(self) -> Operator:
        return Operator(Kind.ZERO, (self.shape,), self.shape)

    def add(self) -> Operator:
        return Operator(Kind.ADD, (self.shape, self.shape), self.shape)

    def graph(self, *nodes: tuple[str, Operator, tuple[str, ...]]) -> OperatorGraph:
        return OperatorGraph.of([OperatorNode(*node) for node in nodes], {"x": self.shape}, (nodes[-1][0],))

    def chain(self, first: tuple[str, Operator, tuple[str, ...]], step: Operator, length: int = 8) -> OperatorGraph:
        """`first` and then `length` times `step`."""
        names = [first[0], *(f"step{number}" for number in range(length))]
        steps = [(name, step, (before,)) for before, name in itertools.pairwise(names)]
        return self.graph(first, *steps)
