"""Many inputs, on several processes, and their tally. Input number i is a function of i and the seed alone."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any

from . import packages, programs
from .corpus import corpus
from .judge import OUTCOMES, Verdict, judge

PACKAGE_SHARE = 0.15
_CHUNK = 2000


@dataclass(slots=True)
class Tally:
    """How many inputs ended in which way, how far they came, and those that failed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, index: int, verdict: Verdict) -> None:
        self.outcomes[verdict.outcome] += 1
        self.stages[f"{verdict.stage}: {verdict.detail}" if verdict.outcome == "typed_errors" else verdict.stage] += 1
        if verdict.outcome not in ("typed_errors", "accepted"):
            self.failures.append({"index": index, "outcome": verdict.outcome, "detail": verdict.detail})

    def merge(self, other: Tally) -> None:
        self.outcomes += other.outcomes
        self.stages += other.stages
        self.failures += other.failures

    def as_dict(self) -> dict[str, Any]:
        """JSON values: a count for every outcome, those that did not occur included."""
        return {
            "inputs": self.outcomes.total(),
            **{name: self.outcomes[name] for name in OUTCOMES},
            "stages": dict(self.stages.most_common()),
            "failures": self.failures,
        }


def make(index: int, seed: int) -> tuple[bytes, bool, random.Random]:
    """Input number `index`, whether it is a package, and the random stream of its run."""
    rng = random.Random(f"{seed}/{index}")
    seeds = corpus()
    if rng.random() < PACKAGE_SHARE:
        return packages.mutant(rng, seeds.archives, seeds.drafts), True, rng
    return programs.mutant(rng, seeds.drafts), False, rng


def run_range(bounds: tuple[int, int], *, seed: int, seconds: float = 1.0) -> Tally:
    """Judges the inputs from the first bound to before the second."""
    tally = Tally()
    for index in range(*bounds):
        data, is_package, rng = make(index, seed)
        tally.add(index, judge(data, rng, package=is_package, seconds=seconds))
    return tally


def run(count: int, seed: int, workers: int, seconds: float) -> Tally:
    """Judges `count` inputs on `workers` processes."""
    bounds = [(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    work = partial(run_range, seed=seed, seconds=seconds)
    total = Tally()
    if workers == 1:
        for tally in map(work, bounds):
            total.merge(tally)
        return total
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for tally in pool.map(work, bounds):
            total.merge(tally)
    return total
