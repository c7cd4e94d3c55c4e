"""Yes-or-no questions put to a noisy device: measure in turn until the answer stands out of the noise.

A question is a weighted sum of latencies whose sign is the answer. Every round measures each network once, in an order
drawn anew, so that drift and warm-up meet all of them alike; one round gives one value of the sum. After each of a few
planned looks a Student interval says whether the sign is certain. The allowed error is shared among the looks
(Bonferroni), so that looking early does not make a wrong answer likelier than `error_rate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import stats

from ...common.errors import EstimatorError
from .graph import OperatorGraph

Sampler: TypeAlias = Callable[[], float]
"""Runs a network once and returns the time in any unit."""
Prepare: TypeAlias = Callable[[OperatorGraph], Sampler]
"""Compiles a network for the device; what it returns is called many times."""
_TRIMMED = 0.1
"""Share of the rounds that is left out at each end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When to look, and how often a wrong answer is accepted. `looks` are numbers of rounds, ascending."""

    looks: tuple[int, ...] = (8, 12, 18, 27, 40, 60, 90)
    error_rate: float = 0.01


@dataclass(frozen=True, slots=True)
class Answer:
    """`holds` is None when the plan ended without certainty. `mean` and `half_width` are those of the sum."""

    holds: bool | None
    mean: float
    half_width: float
    rounds: int


class Interview:
    """Measures some networks on one device and answers questions about them; all questions share the rounds."""

    def __init__(self, samplers: Mapping[str, Sampler], *, seed: int = 0) -> None:
        self._samplers = dict(samplers)
        self._generator = np.random.default_rng(seed)
        self._rounds: list[dict[str, float]] = []

    @classmethod
    def of(cls, networks: Mapping[str, OperatorGraph], prepare: Prepare, *, seed: int = 0) -> Interview:
        return cls({name: prepare(graph) for name, graph in networks.items()}, seed=seed)

    def ask(self, weights: Mapping[str, float], plan: Plan | None = None) -> Answer:
        """Whether the sum of weight × latency is positive.

        Raises:
            EstimatorError: a sample that is no positive number.
        """
        chosen = plan or Plan()
        answer = Answer(None, 0.0, np.inf, 0)
        for look in chosen.looks:
            self._measure_until(look)
            answer = self._answer(weights, look, 1 - chosen.error_rate / len(chosen.looks))
            if answer.holds is not None:
                return answer
        return answer

    def _answer(self, weights: Mapping[str, float], rounds: int, confidence: float) -> Answer:
        """Trimmed mean of the sum and its interval (Tukey and McLaughlin 1963): interruptions must not decide."""
        taken = self._rounds[:rounds]
        values = np.array([sum(weight * sample[name] for name, weight in weights.items()) for sample in taken])
        cut = int(_TRIMMED * rounds)
        mean = float(stats.trim_mean(values, _TRIMMED))
        winsorised = np.clip(values, *np.sort(values)[[cut, rounds - 1 - cut]])
        error = float(winsorised.std(ddof=1)) / ((1 - 2 * cut / rounds) * np.sqrt(rounds))
        half = float(stats.t.ppf((1 + confidence) / 2, rounds - 2 * cut - 1)) * error
        return Answer(mean > 0 if abs(mean) > half else None, mean, half, rounds)

    def _measure_until(self, rounds: int) -> None:
        names = list(self._samplers)
        while len(self._rounds) < rounds:
            sample: dict[str, float] = {}
            for index in self._generator.permutation(len(names)):
                sample[names[index]] = self._sample(names[index])
            self._rounds.append(sample)

    def _sample(self, name: str) -> float:
        value = float(self._samplers[name]())
        if not (np.isfinite(value) and value > 0):
            raise EstimatorError(f"the device reports a latency of {value}", where=f"network {name!r}")
        return value
