"""Searches of a full and of a curated space, compared by the hypervolume of what their first trials found.

Both arms are `lanefit search --strategy zero-shot` itself (session, study and sampler, the study in memory): equal
seeds, sampler, proxies and objectives. What differs is the space: the family's values as listed, which the sampler sees
as numbers where they are evenly spaced and as names elsewhere, against what curation kept in the order of cost.
One score and one reference point hold for all searches of a target.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from lanefit.models.architecture import Architecture
from lanefit.nas.config import SearchConfig
from lanefit.nas.curation import Sampler
from lanefit.nas.results import TrialRecord
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.session import Session
from lanefit.nas.space import Space
from lanefit.nas.storage import MEMORY, parse_place
from lanefit.nas.strategies import STRATEGIES
from lanefit.nas.study import open_study
from lanefit.nas.workbench import ModelWorkbench

PROXIES = ("naswot", "synflow")
TRIALS = (50, 100, 200)
REACH = 60
WORST = -10.0  # deviations below the mean: what a degenerate network scores
UNITS, SAMPLE = 40, 300  # architectures of the full space that give the score its units, and the reference its latency
SCALES: dict[str, Callable[[float], float]] = {"latency": float, "log_latency": math.log}

Point = tuple[float, float]
"""Latency in microseconds, score: less and more is better."""


class Bench(ModelWorkbench):
    """The workbench of a search whose seed moves the search only: all searches score with one initialisation."""

    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        return super().score(architecture, 0)


@dataclass(frozen=True)
class Yardstick:
    """units: mean and deviation of each proxy over random architectures; reference: the 95 % quantile of the latency
    and the 5 % quantile of the score, all of the full space."""

    units: dict[str, tuple[float, float]] = field(default_factory=dict)
    reference: Point = (math.inf, -math.inf)

    @classmethod
    def of(cls, bench: Bench, sample: Sampler) -> Yardstick:
        drawn = [bench.space.sample(stream(i)) for i in range(SAMPLE)]
        raws = [bench.score(architecture, 0) for architecture in drawn[:UNITS]]
        units = {name: _unit([raw[name] for raw in raws]) for name in PROXIES}
        scores = [cls(units).score(raw) for raw in raws]
        return cls(units, (float(np.nanquantile(sample.latencies(drawn), 0.95)), float(np.quantile(scores, 0.05))))

    def score(self, raw: dict[str, float]) -> float:
        return fmean(max(WORST, (raw[name] - mean) / deviation) for name, (mean, deviation) in self.units.items())

    def point(self, record: TrialRecord) -> Point:
        """What a trial found; nothing where the target refused it."""
        return (record.cost.latency_us, self.score(dict(record.scores))) if record.cost else (math.inf, WORST)


def _unit(values: list[float]) -> tuple[float, float]:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)), float(np.std(known)) or 1.0


def stream(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def search(bench: Bench, space: Space, config: SearchConfig) -> list[TrialRecord]:
    """The trials of one search of `space`."""
    assert config.seed is not None
    bench.space = space
    with (
        tempfile.TemporaryDirectory() as folder,
        open_study(
            parse_place(MEMORY), sampler=config.sampler, directions=["maximize", "minimize"], seed=config.seed
        ) as study,
    ):
        session = Session(config, bench, study, RunDirectory(Path(folder)), lambda step: None)
        STRATEGIES.get(config.strategy).run(session)
        return list(study.records)


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Area between the reference and the points that are lower in the first and higher in the second coordinate."""
    area, best = 0.0, reference[1]
    for x, y in sorted(points):
        if x < reference[0] and y > best:
            area, best = area + (reference[0] - x) * (y - best), y
    return area


def compare(full: Sequence[Point], curated: Sequence[Point], reference: Point, scale: Callable[[float], float]) -> Any:
    """`ratio` of hypervolumes after equal trials, None where the full space found nothing better than the reference;
    `reached_after`: curated trials until the uncurated result of all trials, None where it is not reached."""
    corner = (scale(reference[0]), reference[1])

    def volumes(points: Sequence[Point]) -> list[float]:
        scaled = [(scale(x), y) for x, y in points]
        return [hypervolume(scaled[: count + 1], corner) for count in range(len(scaled))]

    before, after = volumes(full), volumes(curated)
    counts = [count for count in TRIALS if count <= len(before)] or [len(before)]
    reached = next((count + 1 for count, volume in enumerate(after) if volume >= before[-1]), None)
    ratio = {count: after[count - 1] / before[count - 1] if before[count - 1] else None for count in counts}
    return {"ratio": ratio, "reached_after": reached}


def summary(seeds: Sequence[dict[str, Any]], scale: str) -> dict[str, Any]:
    counts = list(seeds[0][scale]["ratio"])
    known = {count: [found[scale]["ratio"][count] for found in seeds] for count in counts}
    ratios = {count: [ratio for ratio in known[count] if ratio is not None] for count in counts}
    reached = [found[scale]["reached_after"] for found in seeds]
    middle = median(math.inf if r is None else r for r in reached)
    return {
        "at_least_as_good": {n: fmean(r is None or r >= 1 for r in known[n]) for n in counts},
        "mean_ratio": {n: fmean(ratios[n]) if ratios[n] else None for n in counts},
        "sd_ratio": {n: float(np.std(ratios[n])) if ratios[n] else None for n in counts},
        "median_reached_after": middle if math.isfinite(middle) else None,
        f"reached_within_{REACH}": fmean(r is not None and r <= REACH for r in reached),
    }
