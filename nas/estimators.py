"""Estimators for a search: fitted on the family that is searched, kept in a file, and checked by compiling."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..common.errors import EstimatorError, InputError
from ..estimator.fit import FitBudget, fit_engine
from ..estimator.network import NetworkEstimator
from ..export.graph import Graph
from ..export.precision import Precision, with_precision
from ..models.family import Family
from ..models.tasks import Task
from ..targets.spec import EngineSpec
from .bridge import to_graph
from .curation import runnable
from .space import Space

FIT_NETWORKS = 150
FIT_BUDGET = FitBudget(workloads=1000, networks=30)
FIT_SEED = 0  # one estimator for each (engine, family, task): a search's own seed must not move its budget

INT8_ONLY = ("int8",)
_MIXING = 1  # beside the seed: the stream that precisions are drawn from

Precisions = tuple[str, ...]
OnMeasured = Callable[[int, int], None]


def cache_directory() -> Path:
    """Where fitted estimators are kept: LANEFIT_CACHE, or `lanefit` in the user's cache folder."""
    if "LANEFIT_CACHE" in os.environ:
        return Path(os.environ["LANEFIT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lanefit"


def cached_estimator_path(spec: EngineSpec, family: Family, task: Task, precisions: Precisions = INT8_ONLY) -> Path:
    """The cache file for an engine, a family, the channels and classes of a task, and precisions."""
    kinds = "" if precisions == INT8_ONLY else f"-{'-'.join(precisions)}"
    name = f"{family.name}-{task.channels}-{task.classes}{kinds}-{spec.digest()}.json"
    return cache_directory() / "estimators" / name


def cached_curation_path(key: str) -> Path:
    """The cache file of the curation with this key, see `curation.kept`."""
    return cache_directory() / "curations" / f"{key}.json"


def sample_graphs(family: Family, task: Task, count: int, seed: int, precisions: Precisions = INT8_ONLY) -> list[Graph]:
    """The operator graphs of `count` random architectures that an engine can run: one of `precisions` for a
    whole graph, or mixed ones."""
    space = runnable(Space.of(family))
    drawn = (space.sample(seed * count + number) for number in range(count))
    graphs = [
        to_graph(family.layers(architecture, input_channels=task.channels, classes=task.classes))
        for architecture in drawn
    ]
    if precisions == INT8_ONLY:
        return graphs
    rng = np.random.default_rng(np.random.SeedSequence((seed, _MIXING)))
    return [with_precision(graph, _random_precision(rng, graph, precisions)) for graph in graphs]


def _random_precision(rng: np.random.Generator, graph: Graph, precisions: Precisions) -> Precision:
    """One for all operators in half of the graphs, else one each."""
    if rng.random() < 0.5:
        return Precision(str(rng.choice(precisions)))
    return Precision("int8", tuple((node.name, str(rng.choice(precisions))) for node in graph.nodes))


def fit_estimator(
    spec: EngineSpec,
    family: Family,
    task: Task,
    *,
    precisions: Precisions = INT8_ONLY,
    networks: int = FIT_NETWORKS,
    budget: FitBudget = FIT_BUDGET,
    progress: OnMeasured | None = None,
) -> NetworkEstimator:
    """An estimator for the architectures of `family`, their operators in any of `precisions`; the same arguments give
    the same estimator."""
    graphs = sample_graphs(family, task, networks, FIT_SEED, precisions)
    return fit_engine(spec, graphs, seed=FIT_SEED, budget=budget, progress=progress)


def open_estimator(
    path: Path,
    spec: EngineSpec,
    fit: Callable[[], NetworkEstimator],
    on_refit: Callable[[EstimatorError], None],
    on_unsaved: Callable[[InputError], None],
) -> NetworkEstimator:
    """The estimator in `path` if it fits this engine and toolchain, or a new one, stored there.

    `on_refit` is told why a stored one was not used, `on_unsaved` why a new one could not be stored.
    """
    if os.path.exists(path):  # unlike Path.exists, False where looking is not permitted
        try:
            return NetworkEstimator.load(path, spec)
        except EstimatorError as error:
            on_refit(error)
    found = fit()
    try:
        found.save(path)
    except InputError as error:  # the fit took long, and its result is good without the file
        on_unsaved(error)
    return found
