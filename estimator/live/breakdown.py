"""Where each microsecond of a network goes that was predicted as a sum of operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .additive import AdditiveModel, Operators
from .box import Box, Known, place
from .executed import ExecutedOperator
from .operator_costs import OperatorCosts, Sum
from .work import work_of

_Z90 = 1.645  # a normal variable lies within so many deviations in nine of ten cases
_BEYOND = 0.25  # relative standard deviation of an operator outside of the box: the law was never seen there
_LEAST = 0.05  # of the prediction: the lower end of an interval stays above it


@dataclass(frozen=True, slots=True)
class LivePart:
    """Equal operators of a network: how many there are, and what one of them takes on average, µs.

    The latency includes data that comes from afar in the operator's place. `known` tells operators that lie beyond
    what was measured, or are of a kind that was not measured at all: their family's costs stand in, with doubt.
    """

    operator: ExecutedOperator
    count: int
    latency_us: float
    lower_us: float
    upper_us: float
    known: Known

    @property
    def total_us(self) -> float:
        return self.count * self.latency_us


@dataclass(frozen=True, slots=True)
class Breakdown:
    """`parts`, those that take longest first, and `run_us`: what a run costs whatever it executes, with its ports."""

    parts: tuple[LivePart, ...]
    run_us: float

    @property
    def total_us(self) -> float:
        return self.run_us + sum(part.total_us for part in self.parts)

    @property
    def extrapolated_share(self) -> float:
        """Share of the latency that belongs to operators beyond what was measured, 0..1."""
        beyond = sum(part.total_us for part in self.parts if part.known is not Known.INSIDE)
        return beyond / self.total_us if beyond else 0.0

    @property
    def beyond_us(self) -> float:
        """Standard deviation that operators outside of the box add, in one direction all of them."""
        return _BEYOND * sum(part.total_us for part in self.parts if part.known is Known.BEYOND)

    @property
    def has_unknown(self) -> bool:
        return any(part.known is Known.UNKNOWN for part in self.parts)


def interval(latency_us: float, deviation_us: float) -> tuple[float, float]:
    """The ends between which nine measurements of ten lie; the lower one is never zero."""
    half = _Z90 * deviation_us
    return max(latency_us - half, _LEAST * latency_us), latency_us + half


def breakdowns(model: AdditiveModel, sums: Sequence[Sum], box: Box) -> list[Breakdown]:
    """One for each sum; parts and run add up to the prediction, as long as no operator is at its lower bound."""
    asked = Operators(sums)
    columns = (column.tolist() for column in model.operators(asked))
    times = dict(zip((operator.digest for operator in asked.operators), zip(*columns, strict=True), strict=True))
    places = {o.digest: place(box, work) for o, work in zip(asked.operators, asked.works, strict=True)}
    return [_breakdown(total, model.costs, times, places) for total in sums]


def _breakdown(
    total: Sum, costs: OperatorCosts, times: dict[str, tuple[float, float]], places: dict[str, Known]
) -> Breakdown:
    afar: dict[str, list[float]] = {}
    operators: dict[str, ExecutedOperator] = {}
    for term, share in zip(total.terms, _surroundings(total, costs), strict=True):
        afar.setdefault(term.operator.digest, []).append(share)
        operators[term.operator.digest] = term.operator
    parts: list[LivePart] = []
    for digest, shares in afar.items():
        alone, deviation = times[digest]
        latency = alone + float(np.mean(shares))
        known = places[digest]
        doubt = deviation if known is not Known.BEYOND else float(np.hypot(deviation, _BEYOND * latency))
        parts.append(LivePart(operators[digest], len(shares), latency, *interval(latency, doubt), known))
    run = float(costs.surroundings_us([Sum((), total.ports, total.cold)])[0])
    return Breakdown(tuple(sorted(parts, key=lambda part: -part.total_us)), run)


def _surroundings(total: Sum, costs: OperatorCosts) -> list[float]:
    """What each term adds to the surroundings' cost, which is linear in the terms."""
    ones = [Sum((term,), 0, total.cold) for term in total.terms]
    none = float(costs.surroundings_us([Sum((), 0, total.cold)])[0])
    return (costs.surroundings_us(ones) - none).tolist() if ones else []


def label(operator: ExecutedOperator) -> str:
    """A name for reports: the kind with what decides its law, and the shape that it makes."""
    shape = "x".join(map(str, operator.outputs[0].shape)) if operator.outputs else ""
    return f"{work_of(operator).kind} {shape}".strip()
