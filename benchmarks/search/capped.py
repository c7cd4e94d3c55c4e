"""Search under a hard cap on NAS-Bench-201: lanefit's own strategies, with tables for latency and for training.

    python benchmarks/search/capped.py --accuracy accuracy.csv:c10_test_200ep_mean --latency latency.csv:edgegpu_latency

Caps are percentiles of the latency over all connected cells that both tables have. A training costs one look into the
accuracy table; scores are computed on the real networks and kept in `--cache`, for all seeds and strategies together.
Strategies: random; evolution, tpe, nsga2, gp (multi-shot with that sampler: every feasible trial trains); hybrid.
The curves (best accuracy so far over trainings, mean over seeds) go into the JSON file and a PNG beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

import numpy as np
from cell_scores import CellScores
from cell_tables import read_accuracy, read_cost
from table_bench import Run, TableBench, search

from lanefit.nas.config import SearchConfig
from lanefit.nas.proxies import DEFAULT_PROXIES

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

MULTI_SHOT = ("evolution", "tpe", "nsga2", "gp")
DEFAULT = ("random", "evolution", "tpe", "nsga2", "hybrid")
PERCENTILES = (25, 50, 75)
DRAWS = 40  # trials that strategies without a screen may spend for each training, feasible or not


@dataclass(frozen=True)
class Job:
    """One search: `trainings` is its whole budget, which `hybrid` plans ahead for."""

    strategy: str
    percentile: int
    cap: float
    trainings: int
    seed: int
    screen: int
    proxies: tuple[str, ...]

    def config(self) -> SearchConfig:
        hybrid = self.strategy == "hybrid"
        return SearchConfig().replaced(
            family="nas-bench-201",
            strategy="multi-shot" if self.strategy in MULTI_SHOT else self.strategy,
            sampler=self.strategy if self.strategy in MULTI_SHOT else "auto",
            trials=max(self.screen, self.trainings) if hybrid else DRAWS * self.trainings,
            trainings=self.trainings,
            seed=self.seed,
            budgets={"latency": f"{self.cap!r}us"},
            proxies=list(self.proxies),
        )


class Tables:
    """Both columns over the cells that they share."""

    def __init__(self, accuracy: str, latency: str) -> None:
        found, cost = read_accuracy(accuracy), read_cost(latency)
        self.accuracy = {digest: value for digest, value in found.values.items() if digest in cost.values}
        self.cost = {digest: cost.values[digest] for digest in self.accuracy}
        self.cells = [found.architectures[digest] for digest in self.accuracy]
        self.dropped = {"accuracy": found.dropped, "latency": cost.dropped}
        if not self.accuracy:
            raise SystemExit("the two tables share no connected cell")

    def caps(self) -> dict[int, float]:
        return {percentile: float(np.percentile(list(self.cost.values()), percentile)) for percentile in PERCENTILES}

    def oracle(self, cap: float) -> float:
        return max(self.accuracy[digest] for digest, cost in self.cost.items() if cost <= cap)


_state: dict[str, Any] = {}


def _prepare(arguments: argparse.Namespace) -> None:
    """Once for each process: tables and scores."""
    import torch

    torch.set_num_threads(1)
    tables = Tables(arguments.accuracy, arguments.latency)
    proxies = arguments.proxies.split(",")
    scores = CellScores(tables.cells, arguments.cache, arguments.dataset, proxies)
    _state["bench"] = lambda: TableBench(tables.cost, tables.accuracy, scores.of)


def _search(job: Job) -> tuple[Job, Run]:
    return job, search(_state["bench"](), job.config())


def jobs(arguments: argparse.Namespace, caps: Mapping[int, float]) -> list[Job]:
    """Strategies that do not look ahead run once, with the largest budget, and are read at the smaller ones."""
    found = []
    for strategy in arguments.strategies.split(","):
        budgets = arguments.trainings if strategy == "hybrid" else [max(arguments.trainings)]
        found += [
            Job(strategy, q, cap, most, seed, arguments.screen, tuple(arguments.proxies.split(",")))
            for most in budgets
            for q, cap in caps.items()
            for seed in range(arguments.seed, arguments.seed + arguments.seeds)
        ]
    return found


def summarise(runs: Sequence[tuple[Job, Run]], trainings: Sequence[int], tables: Tables) -> list[dict[str, Any]]:
    """One row for each strategy, cap and budget, accuracies and gaps in percentage points."""
    rows = []
    groups = sorted({(job.percentile, job.strategy, job.trainings, job.cap) for job, _ in runs})
    for percentile, strategy, planned, cap in groups:
        wanted = (percentile, strategy, planned)
        group = [run for job, run in runs if (job.percentile, job.strategy, job.trainings) == wanted]
        for most in [planned] if strategy == "hybrid" else trainings:
            where = {"strategy": strategy, "percentile": percentile, "cap": cap}
            rows.append(where | _row(group, most, tables.oracle(cap)))
            costs = [cost for run in group for cost, _ in [*run.trained, *([run.winner] if run.winner else [])]]
            rows[-1]["violations"] = sum(cost > cap for cost in costs)
    return rows


def _row(group: Sequence[Run], trainings: int, oracle: float) -> dict[str, Any]:
    best = [100 * (run.best(trainings) or 0.0) for run in group]
    gaps = [100 * oracle - value for value in best]
    short = sum(len(run.trained) < trainings for run in group)
    curve = [fmean(100 * (run.best(count) or 0.0) for run in group) for count in range(1, trainings + 1)]
    return {
        "trainings": trainings, "mean": fmean(best), "sd": pstdev(best), "oracle": 100 * oracle,
        "gap_mean": fmean(gaps), "gap_median": median(gaps), "seeds": len(group), "short_of_trainings": short,
        "curve": curve,
    }  # fmt: skip


def draw(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Mean of the best accuracy so far over trainings, one panel for each cap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    caps = sorted({row["percentile"] for row in rows})
    figure = Figure(figsize=(5 * len(caps), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, percentile in zip(np.atleast_1d(figure.subplots(1, len(caps))), caps, strict=True):
        shown = [row for row in rows if row["percentile"] == percentile]
        for row in shown:
            longest = max(other["trainings"] for other in shown if other["strategy"] == row["strategy"])
            if row["strategy"] == "hybrid" or row["trainings"] == longest:
                label = f"hybrid, {row['trainings']}" if row["strategy"] == "hybrid" else row["strategy"]
                axes.plot(range(1, row["trainings"] + 1), row["curve"], label=label)
        axes.axhline(shown[0]["oracle"], color="black", linestyle=":", label="oracle")
        axes.set(title=f"cap at the {percentile}th percentile", xlabel="trainings", ylim=(shown[0]["oracle"] - 3, None))
    figure.axes[0].set_ylabel("best accuracy so far, %")
    figure.axes[0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"{'cap':>4}  {'strategy':<10} trainings {'mean':>8} {'s.d.':>6} {'gap':>6} {'median gap':>10} violations")
    for row in rows:
        print(
            f"{row['percentile']:>3}%  {row['strategy']:<10} {row['trainings']:>9} {row['mean']:>8.3f} "
            f"{row['sd']:>6.3f} {row['gap_mean']:>6.3f} {row['gap_median']:>10.3f} {row['violations']:>10}"
        )


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__)
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    options.add_argument("--accuracy", required=True, metavar="CSV:COLUMN", help="accuracy after training, by arch_str")
    options.add_argument("--latency", required=True, metavar="CSV:COLUMN", help="what the cap limits, by arch_str")
    options.add_argument("--trainings", type=numbers, default=[30, 100], metavar="N,N", help="budgets (30,100)")
    options.add_argument("--seeds", type=int, default=20, help="searches of each kind (default: %(default)s)")
    options.add_argument("--strategies", default=",".join(DEFAULT), help="default: %(default)s; also gp (slow)")
    options.add_argument("--screen", type=int, default=200, help="networks that hybrid scores (default: %(default)s)")
    options.add_argument("--proxies", default=",".join(DEFAULT_PROXIES), help="scores of hybrid (default: %(default)s)")
    options.add_argument("--dataset", metavar="DIR", type=Path, help="images to score on (default: cifar10_jpeg)")
    options.add_argument("--cache", metavar="FILE", type=Path, default=Path.home() / ".cache/lanefit/cell_scores.db",
                         help="scores of cells, kept between runs (default: %(default)s)")  # fmt: skip
    options.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    options.add_argument("--png", metavar="FILE", type=Path, help="curves (default: beside the JSON file)")
    return options


def main() -> None:
    arguments = _options().parse_args()
    tables = Tables(arguments.accuracy, arguments.latency)
    wanted = jobs(arguments, tables.caps())
    with ProcessPoolExecutor(arguments.processes, initializer=_prepare, initargs=(arguments,)) as pool:
        runs = list(pool.map(_search, wanted))
    rows = summarise(runs, arguments.trainings, tables)
    show(rows)
    png = arguments.png or (arguments.json.with_suffix(".png") if arguments.json else None)
    if png is not None:
        draw(rows, png, f"{arguments.accuracy.rpartition(':')[2]} under {arguments.latency.rpartition(':')[2]}")
    figures = {"cells": len(tables.accuracy), "dropped": tables.dropped, "results": rows}
    finish(arguments.json, figures, first_seed=arguments.seed, seeds=arguments.seeds)


if __name__ == "__main__":
    main()
