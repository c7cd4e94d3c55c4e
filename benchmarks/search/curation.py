"""What curation is worth on a target: smaller space, smoother cost, better search with equally many trials.

Space      number of architectures before and after.
Walks      local minima and falls of the cost per 1,000 steps of walks that climb one knob by one ordered step (see
           nas/curation/walks.py), both spaces by the same rule. Before: every knob ordered by its multiply-accumulates,
           the best order that can be had without the target; `as_listed` is the family's own order.
Front      hypervolume of the Pareto front of a random sample of the curated space over that of an equally large one of
           the full space, for multiply-accumulates (logarithm) as the score: has curation cut off what is good?
Search     TPE over both spaces with the same seeds, two objectives: a zero-shot score (mean of NASWOT and SynFlow in
           units of the full space) and latency by the exact estimator. Hypervolume at equal trials, against one
           reference point (the 95 % quantile of the latency and the 5 % quantile of the score of the full space's
           sample), with latency as it is and as its logarithm. `reached_after` counts the curated trials until the
           uncurated result of all trials is reached, None where it is not; a ratio is None where the full space
           found nothing better than the reference.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import optuna

from lanefit.models.architecture import Architecture
from lanefit.models.registry import families, find_task
from lanefit.models.tasks import Split
from lanefit.nas.curation import CurationReport, Sampler, TargetCosts, curate, engine_costs
from lanefit.nas.curation.walks import ordered_by_work, ruggedness
from lanefit.nas.estimators import cached_estimator_path, fit_estimator, open_estimator
from lanefit.nas.proxies import score_all
from lanefit.nas.proxies.subject import Subject
from lanefit.nas.samplers import SAMPLERS
from lanefit.nas.space import Space
from lanefit.targets.spec import load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

PROXIES = ("naswot", "synflow")
BATCH = 8
TRIALS = (50, 100, 200)
REACH = 60
WORST = -10.0  # deviations below the mean: what a degenerate network scores
UNITS, SAMPLE = 40, 300  # architectures that give the score its units, and the reference point

Point = tuple[float, float]
"""Latency in microseconds, score: less and more is better."""


@dataclass
class Setting:
    """Everything that the two searches share."""

    full: Space
    curated: Space
    report: CurationReport
    sample: Sampler
    task: str
    units: dict[str, tuple[float, float]] = field(default_factory=dict)
    scores: dict[Architecture, dict[str, float]] = field(default_factory=dict)

    def point(self, architecture: Architecture) -> Point:
        return self.sample(architecture).latency_us, self.score(architecture)

    def score(self, architecture: Architecture) -> float:
        found = self.raw(architecture)
        return fmean(max(WORST, (found[name] - mean) / deviation) for name, (mean, deviation) in self.units.items())

    def raw(self, architecture: Architecture) -> dict[str, float]:
        if architecture not in self.scores:
            self.scores[architecture] = self._raw(architecture)
        return self.scores[architecture]

    def _raw(self, architecture: Architecture) -> dict[str, float]:
        task, family = find_task(self.task), self.full.family
        shape = {"input_channels": task.channels, "classes": task.classes}
        images = minibatch(self.task, family.input_shape(architecture, task.channels)[1])
        macs = int(self.sample(architecture).work[0])
        return score_all(PROXIES, Subject(family.build(architecture, **shape), images, macs=macs))


@lru_cache
def minibatch(task: str, resolution: int) -> Any:
    import torch

    found = find_task(task)
    images = found.load(Split.TRAIN, resolution, limit=BATCH).images
    return torch.from_numpy(np.ascontiguousarray(found.normalise(images)))


def costs_of(target: str, family: str, task: str) -> TargetCosts:
    """The engine's exact estimator, from the cache or fitted."""
    spec, of, found = load_spec(target), families.get(family), find_task(task)
    path = cached_estimator_path(spec, of, found)
    return engine_costs(spec, open_estimator(path, spec, lambda: fit_estimator(spec, of, found), ignore, ignore))


def ignore(_: object) -> None:
    """Whether the estimator came from the cache changes nothing here."""


def prepare(target: str, family: str, task: str) -> Setting:
    found, full = find_task(task), Space.of(families.get(family))
    shape = {"input_channels": found.channels, "classes": found.classes}
    costs = costs_of(target, family, task)
    curated, report = curate(full, costs, **shape)
    return Setting(full, curated, report, Sampler(full.family, costs, **shape), task)


def calibrate(setting: Setting, seed: int) -> None:
    """Mean and deviation of every score over random architectures of the full space."""
    raws = [setting.raw(setting.full.sample(stream(seed, 1, i))) for i in range(UNITS)]
    for name in PROXIES:
        values = [raw[name] for raw in raws if math.isfinite(raw[name])]
        setting.units[name] = (float(np.mean(values)), float(np.std(values)) or 1.0)


def stream(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def walks(setting: Setting, steps: int, seed: int) -> dict[str, Any]:
    found = find_task(setting.task)
    by_work = ordered_by_work(setting.full, input_channels=found.channels, classes=found.classes)
    spaces = {"before": by_work, "as_listed": setting.full, "after": setting.curated}
    results = {
        name: ruggedness(space, setting.sample, steps=steps, seed=seed).as_dict() for name, space in spaces.items()
    }
    after = max(results["after"]["minima_per_1000"], 1000 / steps)  # none at all counts as one
    return {**results, "minima_factor": results["before"]["minima_per_1000"] / after}


def front(setting: Setting, count: int, seed: int) -> float:
    def points(space: Space) -> list[Point]:
        drawn = [space.sample(stream(seed, 2, i)) for i in range(count)]
        return [(math.log(setting.sample(a).latency_us), math.log(setting.sample(a).work[0])) for a in drawn]

    full, curated = points(setting.full), points(setting.curated)
    reference = (max(x for x, _ in full), min(y for _, y in full))
    return hypervolume(curated, reference) / hypervolume(full, reference)


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Area between the reference and the points that are lower in the first and higher in the second coordinate."""
    area, best = 0.0, reference[1]
    for x, y in sorted(points):
        if x < reference[0] and y > best:
            area, best = area + (reference[0] - x) * (y - best), y
    return area


def search(setting: Setting, space: Space, sampler: str, seed: int, trials: int) -> list[Point]:
    """What each trial found."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=SAMPLERS.get(sampler)(seed))
    points: list[Point] = []
    for _ in range(trials):
        trial = study.ask()
        latency_us, score = setting.point(space.suggest(trial))
        study.tell(trial, [score, latency_us])
        points.append((latency_us, score))
    return points


def reference_point(setting: Setting, seed: int) -> Point:
    drawn = [setting.full.sample(stream(seed, 3, i)) for i in range(SAMPLE)]
    latency = np.quantile([setting.sample(a).latency_us for a in drawn], 0.95)
    return float(latency), float(np.quantile([setting.score(a) for a in drawn[:UNITS]], 0.05))


def compare(full: list[Point], curated: list[Point], reference: Point, scale: Callable[[float], float]) -> Any:
    def volumes(points: list[Point]) -> list[float]:
        scaled = [(scale(x), y) for x, y in points]
        return [hypervolume(scaled[: i + 1], (scale(reference[0]), reference[1])) for i in range(len(scaled))]

    before, after = volumes(full), volumes(curated)
    counts = [count for count in TRIALS if count <= len(before)] or [len(before)]
    reached = next((i + 1 for i, volume in enumerate(after) if volume >= before[-1]), None)
    ratio = {count: after[count - 1] / before[count - 1] if before[count - 1] else None for count in counts}
    return {"ratio": ratio, "reached_after": reached}


def one_seed(setting: Setting, sampler: str, seed: int, trials: int, reference: Point) -> dict[str, Any]:
    """Both searches of one seed."""
    full = search(setting, setting.full, sampler, seed, trials)
    curated = search(setting, setting.curated, sampler, seed, trials)
    scales = {"latency": float, "log_latency": math.log}
    return {"seed": seed, **{name: compare(full, curated, reference, scale) for name, scale in scales.items()}}


_SHARED: dict[str, Any] = {}


def _start(arguments: tuple[str, str, str, str, int, int]) -> None:
    """Prepares a worker: an estimator and a curated space of its own, equal to everybody's."""
    import torch

    torch.set_num_threads(1)
    target, family, task, sampler, trials, seed = arguments
    setting = prepare(target, family, task)
    calibrate(setting, seed)
    _SHARED.update(setting=setting, sampler=sampler, trials=trials, reference=reference_point(setting, seed))


def _work(seed: int) -> dict[str, Any]:
    found = one_seed(_SHARED["setting"], _SHARED["sampler"], seed, _SHARED["trials"], _SHARED["reference"])
    print(f"  seed {seed}: " + ", ".join(f"{s} {found[s]}" for s in ("latency", "log_latency")), flush=True)
    return found


def summary(seeds: list[dict[str, Any]], scale: str) -> dict[str, Any]:
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


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--family", default="ibn-classifier", help="(default: %(default)s)")
    options.add_argument("--task", default="cifar10_jpeg", help="images of the scores (default: %(default)s)")
    options.add_argument("--seeds", type=int, default=20, help="searches of each kind; 0: none (default: %(default)s)")
    options.add_argument("--trials", type=int, default=TRIALS[-1], help="of every search (default: %(default)s)")
    options.add_argument("--sampler", default="tpe", help="(default: %(default)s)")
    options.add_argument("--steps", type=int, default=1000, help="of the walks in each space (default: %(default)s)")
    options.add_argument("--front", type=int, default=500, help="architectures of each front (default: %(default)s)")
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    args = options.parse_args()
    setting = prepare(args.target, args.family, args.task)
    report = setting.report
    sizes = (report.cardinality_before, report.cardinality_after)
    figures: dict[str, Any] = {
        "target": args.target, "family": args.family, "sampler": args.sampler, "curation": report.as_dict(),
        "space": {"before": sizes[0], "after": sizes[1], "factor": sizes[0] / sizes[1]},
        "walks": walks(setting, args.steps, args.seed), "front": front(setting, args.front, args.seed),
    }  # fmt: skip
    print(f"space  {sizes[0]:.2e} to {sizes[1]:.2e} architectures, {sizes[0] / sizes[1]:.3g} times fewer")
    for name in ("before", "as_listed", "after"):
        found = figures["walks"][name]
        print(
            f"walks  {name:10} {found['minima_per_1000']:6.1f} minima, {found['falls_per_1000']:6.1f} falls per 1,000"
        )
    print(
        f"walks  {figures['walks']['minima_factor']:.1f} times fewer minima\nfront  {figures['front']:.3f}", flush=True
    )
    if args.seeds:
        shared = (args.target, args.family, args.task, args.sampler, args.trials, args.seed)
        with ProcessPoolExecutor(args.jobs, get_context("spawn"), _start, (shared,)) as pool:
            seeds = list(pool.map(_work, range(args.seed, args.seed + args.seeds)))
        figures["seeds"] = seeds
        for scale in ("latency", "log_latency"):
            figures[scale] = summary(seeds, scale)
            print(f"search {scale}: {figures[scale]}")
    finish(args.json, figures, seed=args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
