"""Zero-shot scores of NAS-Bench-201 cells against a column of trained accuracies; no label is used for any score.

A random sample of the table's cells is built with the skeleton of the published benchmark (five cells a stage, 16
channels) and scored at initialisation. For every proxy and for the default combination (mean log-rank within the
sample): `spearman` and `kendall` with the column, `size_controlled`: Spearman within groups of equal numbers of
3×3 and 1×1 convolutions, averaged by size of group, and `seconds_per_net`: processor seconds on one core, for a proxy
those that it would cost by itself, for the combination those of all its proxies and the network's construction.
`--labels N` shows what weights learned from N labels are worth on all other cells.
"""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from lanefit.common.errors import ConfigError, TableError
from lanefit.models.architecture import Architecture
from lanefit.models.nas_bench_201 import NAS_BENCH_201, RESOLUTION, parse_architecture
from lanefit.models.registry import find_task, tasks
from lanefit.models.tasks import Task
from lanefit.nas.proxies import (
    DEFAULT_PROXIES,
    PROXIES,
    Scores,
    blind_warnings,
    pick_combination,
    rank_scores,
    size_controlled,
    size_warnings,
)
from lanefit.nas.proxies.selfcheck import spearman
from lanefit.nas.score_cache import ScoreCache
from lanefit.nas.scorer import PROXY_BATCH, Scorer, minibatch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

CONVOLUTIONS = ("nor_conv_3x3", "nor_conv_1x1")


@dataclass
class Sample:
    """Cells, what the table says of them, and their scores and costs as they are computed."""

    cells: list[Architecture]
    labels: list[float]
    scores: list[Scores] = field(default_factory=list)
    seconds: list[dict[str, float]] = field(default_factory=list)

    @property
    def sizes(self) -> list[list[int]]:
        """Numbers of 3×3 and of 1×1 convolutions: what cells of equal size have in common."""
        return [[list(cell.values.values()).count(kind) for cell in self.cells] for kind in CONVOLUTIONS]

    @property
    def macs(self) -> list[int]:
        shape = {"input_channels": 3, "classes": 10}
        return [sum(layer.macs for layer in NAS_BENCH_201.layers(cell, **shape)) for cell in self.cells]


def read_table(path: Path, column: str, count: int, seed: int) -> Sample:
    """`count` cells drawn without repetition from the rows with a finite value in `column`.

    Raises:
        TableError: a column that is missing, a cell that cannot be read, or fewer usable rows than `count`.
    """
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    for name in ("arch_str", column):
        if not rows or name not in rows[0]:
            raise TableError(f"column {name!r} is missing", where=str(path))
    usable = [(row["arch_str"], value) for row in rows if (value := _number(row[column])) is not None]
    if len(usable) < count:
        raise TableError(f"{len(usable)} rows have a value in {column!r}, {count} are asked for", where=str(path))
    drawn = [usable[int(index)] for index in np.random.default_rng(seed).permutation(len(usable))[:count]]
    return Sample([parse_architecture(text) for text, _ in drawn], [value for _, value in drawn])


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def find_dataset(folder: Path) -> Task:
    """The task in `folder`: one of the known archives by the name of the folder, or a folder of classes."""
    if not folder.is_dir():
        raise ConfigError("there is no such folder", where=str(folder))
    if folder.name in tasks and any(folder.glob("*.npz")):
        os.environ["LANEFIT_DATA"] = str(folder.resolve().parent)
        return tasks.get(folder.name)
    return find_task(f"folder:{folder}")


def score(sample: Sample, scorer: Scorer) -> None:
    """Scores every cell, with a line of progress now and then."""
    for index, cell in enumerate(sample.cells, start=1):
        found = scorer(cell)
        sample.scores.append(found.scores)
        sample.seconds.append(found.seconds)
        if index % 50 == 0:
            print(f"{index} of {len(sample.cells)} cells", file=sys.stderr, flush=True)


def together(sample: Sample, scorer_of: Any, count: int = 20) -> float:
    """Mean processor seconds of building a cell and scoring it by the default combination, passes shared."""
    chosen = sample.cells[:count]
    uncached = scorer_of(DEFAULT_PROXIES)
    started = time.process_time()
    for cell in chosen:
        uncached(cell)
    return (time.process_time() - started) / len(chosen)


def figures(sample: Sample, values: Sequence[float], seconds: float) -> dict[str, Any]:
    controlled = size_controlled(values, sample.labels, *sample.sizes)
    finite = [value if math.isfinite(value) else -sys.float_info.max for value in values]
    return {
        "spearman": _or_none(spearman(finite, sample.labels)),
        "kendall": _or_none(float(kendalltau(finite, sample.labels).statistic)),
        "size_controlled": _or_none(controlled.value),
        "seconds_per_net": seconds,
        "degenerate": len(values) - sum(map(math.isfinite, values)),
    }


def _or_none(value: float) -> float | None:
    """JSON has no NaN: what nothing can be said about is null."""
    return None if math.isnan(value) else value


def learned(sample: Sample, count: int, seed: int) -> dict[str, Any]:
    """Weights from the first `count` cells, judged on all others beside the default."""
    choice = pick_combination(sample.scores[:count], sample.labels[:count], seed=seed)
    rest, truth = sample.scores[count:], sample.labels[count:]
    default = rank_scores([{name: scores[name] for name in DEFAULT_PROXIES} for scores in rest])
    return {
        "labels": count,
        "weights": dict(choice.weights),
        "reason": choice.reason,
        "spearman": _or_none(spearman(rank_scores(rest, choice.weights), truth)),
        "spearman_default": _or_none(spearman(default, truth)),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--table", type=Path, required=True, metavar="CSV", help="with arch_str and the column")
    options.add_argument("--column", required=True, help="accuracy, higher is better")
    options.add_argument("--count", type=int, default=1000, metavar="N", help="cells (default: %(default)s)")
    options.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="images of the minibatch")
    options.add_argument("--batch", type=int, default=PROXY_BATCH, metavar="N", help="images (default: %(default)s)")
    options.add_argument("--proxies", default=",".join(PROXIES), metavar="A,B", help="default: all")
    options.add_argument("--labels", type=int, default=0, metavar="N", help="also learn weights from N labels")
    options.add_argument("--cache", type=Path, metavar="FILE", help="SQLite file of scores, resumed and shared")
    options.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    given = options.parse_args()
    torch.set_num_threads(1)
    sample = read_table(given.table, given.column, given.count, given.seed)
    task = find_dataset(given.dataset)
    images, labels = minibatch(task, RESOLUTION, given.batch)
    names = list(dict.fromkeys([*given.proxies.split(","), *DEFAULT_PROXIES]))

    def scorer_of(proxies: Sequence[str], cache: ScoreCache | None = None) -> Scorer:
        settings = {"seed": given.seed, "cache": cache, "device": given.device}
        return Scorer(NAS_BENCH_201, images, labels, classes=task.classes, proxies=proxies, **settings)

    score(sample, scorer_of(names, ScoreCache(given.cache) if given.cache else None))
    report(given, sample, names, together(sample, scorer_of))


def report(given: Any, sample: Sample, names: list[str], seconds: float) -> None:
    """The table on stdout and the file."""
    per_proxy = {}
    for name in names:
        costs = float(np.mean([cost[name] for cost in sample.seconds]))
        per_proxy[name] = figures(sample, [scores[name] for scores in sample.scores], costs)
    combined = rank_scores([{name: scores[name] for name in DEFAULT_PROXIES} for scores in sample.scores])
    found: dict[str, Any] = {"proxies": per_proxy, "combined": figures(sample, combined, seconds)}
    found["combined"]["of"] = list(DEFAULT_PROXIES)
    found["warnings"] = [
        *size_warnings(sample.scores, sample.macs),
        *blind_warnings(sample.scores, sample.labels, *sample.sizes),
    ]
    if given.labels:
        found["learned"] = learned(sample, given.labels, given.seed)
    print(f"{'':14} spearman  kendall  size-controlled  seconds  degenerate")
    for name, row in [
        *sorted(per_proxy.items(), key=lambda item: -item[1]["spearman"]),
        ("combined", found["combined"]),
    ]:
        told = [math.nan if row[key] is None else row[key] for key in ("spearman", "kendall", "size_controlled")]
        head = f"{name:14} {told[0]:8.3f} {told[1]:8.3f} {told[2]:16.3f}"
        print(f"{head} {row['seconds_per_net']:8.3f} {row['degenerate']:11d}")
    print(*found["warnings"], sep="\n")
    if given.labels:
        print(f"{given.labels} labels: {found['learned']}")
    about = {"table": given.table.name, "column": given.column, "count": given.count, "batch": given.batch}
    finish(given.json, {**about, **found}, seed=given.seed)


if __name__ == "__main__":
    main()
