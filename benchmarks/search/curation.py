"""What curation is worth on a target: smaller space, smoother cost, better search with equally many trials.

Space      number of architectures before and after.
Walks      local minima and falls of the cost per 1,000 steps of walks that climb one knob by one ordered step (see
           nas/curation/walks.py), all spaces by the same rule: `as_listed` by the family, which is the space that a
           user without curation searches; `by_work`, every knob ordered by its multiply-accumulates, the best order
           that can be had without the target; and curated.
Front      hypervolume of the Pareto front of a random sample of the curated space over that of an equally large one of
           the full space, for multiply-accumulates (logarithm) as the score: has curation cut off what is good?
Search     `lanefit search --strategy zero-shot` over the full space as listed and over the curated one (see
           curation_search.py), with equal seeds, two objectives: a zero-shot score (mean of NASWOT and SynFlow in
           units of the full space) and latency by the exact estimator. Hypervolume at equal trials, against one
           reference point (the 95 % quantile of the latency and the 5 % quantile of the score of the full space's
           sample), with latency as it is and as its logarithm. `reached_after` counts the curated trials until the
           uncurated result of all trials is reached, None where it is not; a ratio is None where the full space
           found nothing better than the reference.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from curation_search import (
    PROXIES,
    SCALES,
    TRIALS,
    Bench,
    Point,
    Yardstick,
    compare,
    hypervolume,
    search,
    stream,
    summary,
)

from common import finish, parser
from lanefit.estimator.network import NetworkEstimator
from lanefit.models.architecture import KnobValue
from lanefit.models.registry import families, find_task
from lanefit.nas.config import SearchConfig
from lanefit.nas.curation import CurationReport, Sampler, curate, engine_costs
from lanefit.nas.curation.walks import ordered_by_work, ruggedness
from lanefit.nas.estimators import cached_estimator_path, fit_estimator, open_estimator
from lanefit.nas.score_cache import ScoreCache
from lanefit.nas.space import Space
from lanefit.targets.spec import load_spec


@lru_cache
def estimator_of(target: str, family: str, task: str) -> NetworkEstimator:
    """The engine's exact estimator, from the cache or fitted; each process opens it once."""
    spec, of, found = load_spec(target), families.get(family), find_task(task)
    path = cached_estimator_path(spec, of, found)
    return open_estimator(path, spec, lambda: fit_estimator(spec, of, found), ignore, ignore)


def ignore(_: object) -> None:
    """Whether the estimator came from the cache changes nothing here."""


@dataclass(frozen=True)
class Setting:
    """What is searched; small enough to be handed to another process. `kept`: the values of the curated space."""

    config: SearchConfig
    kept: Mapping[str, Sequence[KnobValue]]
    cache: Path | None = None

    @cached_property
    def full(self) -> Space:
        return Space.of(families.get(self.config.family))

    @cached_property
    def curated(self) -> Space:
        return self.full.restrict(self.kept, ordered=True)

    @cached_property
    def shape(self) -> dict[str, int]:
        task = find_task(self.config.task)
        return {"input_channels": task.channels, "classes": task.classes}

    @cached_property
    def sample(self) -> Sampler:
        spec = load_spec(self.config.target)
        return Sampler(self.full.family, engine_costs(spec, self.bench.estimator), **self.shape)

    @cached_property
    def bench(self) -> Bench:
        found = estimator_of(self.config.target, self.config.family, self.config.task)
        cache = ScoreCache(self.cache) if self.cache else None
        return Bench(self.full, find_task(self.config.task), found, proxies=PROXIES, score_cache=cache)


def prepare(config: SearchConfig, cache: Path | None) -> tuple[Setting, CurationReport]:
    plain = Setting(config, {}, cache)
    costs = engine_costs(load_spec(config.target), plain.bench.estimator)
    curated, report = curate(plain.full, costs, leave=(), **plain.shape)
    return Setting(config, {knob.name: knob.values for knob in curated.knobs}, cache), report


def walks(setting: Setting, steps: int, seed: int) -> dict[str, Any]:
    by_work = ordered_by_work(setting.full, **setting.shape)
    spaces = {"as_listed": setting.full, "by_work": by_work, "curated": setting.curated}
    found = {
        name: ruggedness(space, setting.sample, steps=steps, seed=seed).as_dict() for name, space in spaces.items()
    }
    after = max(found["curated"]["minima_per_1000"], 1000 / steps)  # none at all counts as one
    factors = {f"fewer_than_{name}": found[name]["minima_per_1000"] / after for name in ("as_listed", "by_work")}
    return {**found, **factors}


def front(setting: Setting, count: int, seed: int) -> float:
    def points(space: Space) -> list[Point]:
        drawn = [setting.sample(space.sample(stream(seed, 2, i))) for i in range(count)]
        return [(math.log(found.latency_us), math.log(found.work[0])) for found in drawn]

    full, curated = points(setting.full), points(setting.curated)
    reference = (max(x for x, _ in full), min(y for _, y in full))
    return hypervolume(curated, reference) / hypervolume(full, reference)


def one_seed(setting: Setting, yardstick: Yardstick, seed: int) -> dict[str, Any]:
    """Both searches of one seed."""
    config = setting.config.replaced(seed=seed)
    full, curated = (
        [yardstick.point(record) for record in search(setting.bench, space, config)]
        for space in (setting.full, setting.curated)
    )
    found = {name: compare(full, curated, yardstick.reference, scale) for name, scale in SCALES.items()}
    return {"seed": seed, **found}


_SHARED: dict[str, Any] = {}


def _start(setting: Setting, yardstick: Yardstick) -> None:
    """Gives a worker what all seeds share."""
    import torch

    torch.set_num_threads(1)
    _SHARED.update(setting=setting, yardstick=yardstick)


def _work(seed: int) -> dict[str, Any]:
    return one_seed(_SHARED["setting"], _SHARED["yardstick"], seed)


def searches(setting: Setting, seeds: Sequence[int], jobs: int) -> Iterator[dict[str, Any]]:
    """The comparisons of all seeds, in order."""
    yardstick = Yardstick.of(setting.bench, setting.sample)
    fresh = Setting(setting.config, setting.kept, setting.cache)
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start, (fresh, yardstick)) as pool:
        yield from pool.map(_work, seeds)


def options() -> argparse.Namespace:
    found = parser(__doc__)
    found.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    found.add_argument("--family", default="ibn-classifier", help="(default: %(default)s)")
    found.add_argument("--task", default="cifar10_jpeg", help="images of the scores (default: %(default)s)")
    found.add_argument("--seeds", type=int, default=20, help="searches of each kind; 0: none (default: %(default)s)")
    found.add_argument("--trials", type=int, default=TRIALS[-1], help="of every search (default: %(default)s)")
    found.add_argument("--sampler", default="tpe", help="(default: %(default)s)")
    found.add_argument("--steps", type=int, default=1000, help="of the walks in each space (default: %(default)s)")
    found.add_argument("--front", type=int, default=500, help="architectures of each front (default: %(default)s)")
    found.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    found.add_argument(
        "--cache", type=Path, metavar="FILE", help="scores to use again, as of `benchmarks/search/capped.py`"
    )
    return found.parse_args()


def show(found: Mapping[str, Any]) -> None:
    space, steps = found["space"], found["walks"]
    print(f"space  {space['before']:.2e} to {space['after']:.2e} architectures, {space['factor']:.3g} times fewer")
    for name in ("as_listed", "by_work", "curated"):
        row = steps[name]
        print(f"walks  {name:9} {row['minima_per_1000']:6.1f} minima, {row['falls_per_1000']:6.1f} falls per 1,000")
    print(
        f"walks  {steps['fewer_than_as_listed']:.1f} times fewer minima than as the family lists its values, "
        f"{steps['fewer_than_by_work']:.1f} than ordered by work\nfront  {found['front']:.3f}", flush=True,
    )  # fmt: skip


def main() -> int:
    args = options()
    config = SearchConfig().replaced(
        family=args.family, task=args.task, target=args.target, strategy="zero-shot", sampler=args.sampler,
        objectives=["score", "latency"], proxies=list(PROXIES), trials=args.trials, curate=False,
    )  # fmt: skip
    setting, report = prepare(config, args.cache)
    before, after = report.cardinality_before, report.cardinality_after
    figures: dict[str, Any] = {
        "target": args.target, "family": args.family, "sampler": args.sampler, "curation": report.as_dict(),
        "space": {"before": before, "after": after, "factor": before / after},
        "walks": walks(setting, args.steps, args.seed), "front": front(setting, args.front, args.seed),
    }  # fmt: skip
    show(figures)
    seeds: list[dict[str, Any]] = []
    for found in searches(setting, range(args.seed, args.seed + args.seeds), args.jobs) if args.seeds else ():
        seeds.append(found)
        print(f"  seed {found['seed']}: " + ", ".join(f"{name} {found[name]}" for name in SCALES), flush=True)
    if seeds:
        figures |= {"seeds": seeds, **{name: summary(seeds, name) for name in SCALES}}
    for name in SCALES if seeds else ():
        print(f"search {name}: {figures[name]}")
    finish(args.json, figures, seed=args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
