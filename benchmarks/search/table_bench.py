"""A workbench whose costs and accuracies come from published tables; scores are computed on the real networks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lanefit.common.errors import UnsupportedError
from lanefit.models.architecture import Architecture
from lanefit.models.nas_bench_201 import NAS_BENCH_201
from lanefit.nas.config import SearchConfig
from lanefit.nas.results import Finalist
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.scoring import Cost, OnEpoch, Training
from lanefit.nas.search import check_config, choose_winner
from lanefit.nas.session import Session
from lanefit.nas.space import Space
from lanefit.nas.storage import MEMORY, parse_place
from lanefit.nas.study import open_study

Score = Callable[[Architecture], dict[str, float]]


@dataclass
class TableBench:
    """`cost` and `accuracy` by architecture digest; a cell that either lacks is refused. Remembers what was trained.

    The cost stands for the latency in us, estimated and measured, whatever the column's unit is.
    """

    cost: Mapping[str, float]
    accuracy: Mapping[str, float]
    scores: Score
    space: Space = field(default_factory=lambda: Space.of(NAS_BENCH_201))
    trained: list[str] = field(default_factory=list)

    def estimate(self, architecture: Architecture) -> Cost:
        digest = architecture.digest()
        if digest not in self.cost or digest not in self.accuracy:
            raise UnsupportedError("the tables do not have this cell")
        latency, (macs, weights) = self.cost[digest], size_of(architecture)
        return Cost(latency, latency, 0, weights, 0, macs)

    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        """The same for every seed, so that searches share what was computed."""
        return self.scores(architecture)

    def train(
        self,
        architecture: Architecture,
        seed: int,
        on_epoch: OnEpoch,
        *,
        start: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> Training:
        digest = architecture.digest()
        self.trained.append(digest)
        accuracy = self.accuracy[digest]
        return Training(accuracy, (accuracy,), accuracy, weights={"cell": np.zeros(0)})

    def measure(self, architecture: Architecture) -> Cost:
        return self.estimate(architecture)


@cache
def _size(operations: tuple[str, ...]) -> tuple[int, int]:
    values = {knob.name: operation for knob, operation in zip(NAS_BENCH_201.knobs(), operations, strict=True)}
    layers = NAS_BENCH_201.layers(Architecture.of(NAS_BENCH_201.name, values), input_channels=3, classes=10)
    return sum(layer.macs for layer in layers), sum(layer.parameters for layer in layers)


def size_of(architecture: Architecture) -> tuple[int, int]:
    """(MACs, weights): they follow from how often each operation occurs, wherever it stands."""
    return _size(tuple(sorted(str(value) for _, value in architecture.knobs)))


@dataclass(frozen=True)
class Run:
    """What one search trained, in order, as (cost, accuracy), and the accuracy of its winner (None: it found none)."""

    trained: list[tuple[float, float]]
    winner: tuple[float, float] | None

    def best(self, trainings: int) -> float | None:
        """The highest accuracy among the first so many trainings."""
        return max((accuracy for _, accuracy in self.trained[:trainings]), default=None)


def search(bench: TableBench, config: SearchConfig) -> Run:
    """One search by lanefit's own strategy, with its study in memory instead of a file."""
    strategy, bench.trained = check_config(config), []
    assert config.seed is not None
    with (
        tempfile.TemporaryDirectory() as folder,
        open_study(
            parse_place(MEMORY),
            sampler=strategy.sampler or config.sampler,
            directions=["maximize"],
            seed=config.seed,
            pruner=config.pruner,
        ) as study,
    ):
        session = Session(config, bench, study, RunDirectory(Path(folder)), lambda step: None)
        winner = choose_winner(strategy.run(session).finalists)
    pairs = [(bench.cost[digest], bench.accuracy[digest]) for digest in bench.trained]
    return Run(pairs, _pair(bench, winner))


def _pair(bench: TableBench, winner: Finalist | None) -> tuple[float, float] | None:
    digest = winner.architecture.digest() if winner else None
    return (bench.cost[digest], bench.accuracy[digest]) if digest else None
