"""Zero-shot scores of cells, computed on the real networks and shared by whatever searches the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from zero_shot import find_dataset

from lanefit.models.architecture import Architecture
from lanefit.models.cell_string import CONV_1, CONV_3, NONE, POOL, SKIP
from lanefit.models.nas_bench_201 import NAS_BENCH_201, RESOLUTION, cell_edges
from lanefit.models.registry import tasks
from lanefit.nas.score_cache import ScoreCache
from lanefit.nas.scorer import Scorer, minibatch

_LETTER = {CONV_1: "a", CONV_3: "b", POOL: "p"}


class CellScores:
    """Scores by proxy of one seed. Cells that compute the same function share those of the first in `cells`."""

    def __init__(
        self, cells: Iterable[Architecture], cache: Path, dataset: Path | None, proxies: Sequence[str]
    ) -> None:
        task = find_dataset(dataset) if dataset else tasks.get("cifar10_jpeg")
        images, labels = minibatch(task, RESOLUTION)
        self._first: dict[str, Architecture] = {}
        for cell in sorted(cells, key=lambda cell: cell.knobs):
            self._first.setdefault(function_of(cell), cell)
        self._scorer = Scorer(
            NAS_BENCH_201, images, labels, classes=len(task.class_names), proxies=proxies, cache=ScoreCache(cache)
        )

    def of(self, cell: Architecture) -> dict[str, float]:
        return self._scorer(self._first.get(function_of(cell), cell)).scores


def function_of(cell: Architecture) -> str:
    """What a cell computes, as a sum of nested operations: equal for cells that differ in dead edges, in the order of
    their nodes, or in identities alone."""
    edges = cell_edges(cell)
    nodes: list[list[str]] = [["x"]]
    for target in (1, 2, 3):
        terms: list[str] = []
        for source in range(target):
            operation = edges[target, source]
            if operation == SKIP:
                terms += nodes[source]
            elif operation != NONE and nodes[source]:
                terms.append(f"{_LETTER[operation]}({'+'.join(nodes[source])})")
        nodes.append(sorted(terms))
    return "+".join(nodes[-1])
