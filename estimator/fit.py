"""Fits an estimator of one engine from sample networks: measure, split, regress, judge, write the card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ConfigError, EstimatorError
from ..export.graph import Graph
from ..kernels.subgraph import Memory
from ..targets.spec import EngineSpec
from .boundary import step_cycles
from .card import ModelCard, data_hash, errors_by_kind, package_versions
from .decompose import decompose, distinct_workloads
from .features import COLUMN, feature_matrix
from .measurement import Measurement, Workload
from .metrics import accuracy
from .model import PhaseModel, fit_phases
from .network import NetworkEstimator
from .physics import PHASES
from .probes import probes
from .runner import EngineRunner, Runner, candidate
from .store import MeasurementStore
from .validity import conformal_factor, upper_bounds, validity_box

_BATCH = 50  # measurements between two transactions: what an interruption can lose


@dataclass(frozen=True, slots=True)
class FitBudget:
    """How much a fit may measure. `workloads` bounds the distinct subgraphs of the sample networks, `networks` the
    whole networks that are held out to judge the sum; each workload takes about two milliseconds.
    """

    workloads: int = 2000
    probes_per_kind: int = 40
    networks: int = 40
    trees: int = 100
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if min(self.workloads, self.probes_per_kind, self.networks, self.trees) < 1 or not 0 < self.held_out < 1:
            raise ConfigError(f"every part of a fit budget must be positive, and held_out below 1: {self}")


def fit_engine(
    spec: EngineSpec,
    graphs: Iterable[Graph],
    *,
    seed: int,
    store: MeasurementStore | None = None,
    budget: FitBudget | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NetworkEstimator:
    """An estimator for `spec`, a pure function of graphs, seed and budget.

    Some of `graphs` are held out as whole networks. With a `store`, workloads that it already holds are not measured
    again, and an interrupted fit resumes. `progress` is told measurements done and to do.

    Raises:
        EstimatorError: fewer than two graphs, or too few workloads to hold any out.
    """
    chosen = budget or FitBudget()
    runner = EngineRunner(spec)
    samples, checks = _hold_out_networks(list(graphs), chosen, seed)
    workloads = _collect(spec, samples, chosen, seed)
    measured = measure_all(runner, workloads, store=store, progress=progress)
    x = feature_matrix([(w.subgraph, candidate(w, spec)) for w in workloads], spec)
    model, held_out = _fit_model(x, measured, workloads, chosen, seed)
    network = _judge_networks(model, runner, checks)
    latencies = np.array([m.latency for m in measured])
    predicted = np.array([p.latency for p in model.predict(x[held_out])])
    card = ModelCard(
        target=spec.name,
        target_digest=spec.digest(),
        toolchain=runner.toolchain,
        data_hash=data_hash(measured),
        seed=seed,
        trees=chosen.trees,
        train_count=int((~held_out).sum()),
        held_out_count=int(held_out.sum()),
        network_count=len(checks),
        network_upper=conformal_factor((network[1] / network[0]).tolist()),
        errors=errors_by_kind(predicted, latencies[held_out], x[held_out][:, COLUMN["kind"]].astype(int)),
        network=accuracy(*network),
        box=model.box.as_dict(),
        versions=package_versions(),
    )
    return NetworkEstimator(spec, model, card)


def measure_all(
    runner: Runner,
    workloads: Sequence[Workload],
    *,
    store: MeasurementStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Measurement]:
    """One measurement per workload, in order; those that `store` holds for this target and toolchain are reused."""
    known: dict[Workload, Measurement] = {}
    if store is not None:
        known = {m.key.workload: m for m in store.all(target=runner.target, toolchain=runner.toolchain)}
    missing = [workload for workload in dict.fromkeys(workloads) if workload not in known]
    for start in range(0, len(missing), _BATCH):
        fresh = [runner.measure(workload) for workload in missing[start : start + _BATCH]]
        known.update((m.key.workload, m) for m in fresh)
        if store is not None:
            store.add(fresh)
        if progress is not None:
            progress(start + len(fresh), len(missing))
    return [known[workload] for workload in workloads]


def _hold_out_networks(graphs: list[Graph], budget: FitBudget, seed: int) -> tuple[list[Graph], list[Graph]]:
    if len(graphs) < 2:
        raise EstimatorError(f"a fit needs two networks or more, got {len(graphs)}", hint="give more sample networks")
    count = min(budget.networks, len(graphs) // 2)
    order = np.random.default_rng(np.random.SeedSequence((seed, 1))).permutation(len(graphs))
    held = set(order[:count].tolist())
    return [g for i, g in enumerate(graphs) if i not in held], [g for i, g in enumerate(graphs) if i in held]


def _collect(spec: EngineSpec, graphs: Sequence[Graph], budget: FitBudget, seed: int) -> list[Workload]:
    """A random choice of the networks' workloads, and probes of every kind."""
    found = distinct_workloads(graphs, spec)
    order = np.random.default_rng(np.random.SeedSequence((seed, 2))).permutation(len(found))[: budget.workloads]
    chosen = [found[i] for i in sorted(order.tolist())]
    return list(dict.fromkeys(chosen + probes(spec, per_kind=budget.probes_per_kind, seed=seed)))


def _fit_model(
    x: NDArray[np.float64], measured: Sequence[Measurement], workloads: Sequence[Workload], budget: FitBudget, seed: int
) -> tuple[PhaseModel, NDArray[np.bool_]]:
    """The model of the training part, and which rows were held out; all tilings of one operator go to one part."""
    held_out = _held_out(workloads, budget.held_out, seed)
    durations = [{PHASES[0]: m.latency, **m.phases} for m in measured]
    training = [values for values, held in zip(durations, held_out, strict=True) if not held]
    regressors = fit_phases(x[~held_out], training, trees=budget.trees, random_state=seed)
    kinds = x[held_out][:, COLUMN["kind"]].astype(int)
    latencies = np.array([m.latency for m in measured])[held_out]
    bounds = upper_bounds(regressors[PHASES[0]].predict(x[held_out]), latencies, kinds)
    return PhaseModel(regressors, bounds, validity_box(x[~held_out])), held_out


def _held_out(workloads: Sequence[Workload], share: float, seed: int) -> NDArray[np.bool_]:
    """Which workloads test the model: `share` of the families, of every kind and of those that store their output, so
    that no kind and no phase is left untrained."""
    strata: dict[tuple[str, bool], set[str]] = {}
    storing = {workload.family() for workload in workloads if workload.subgraph.output is not Memory.SRAM}
    for workload in workloads:
        family = workload.family()
        strata.setdefault((workload.subgraph.kind, family in storing), set()).add(family)
    rng = np.random.default_rng(np.random.SeedSequence((seed, 3)))
    held: set[str] = set()
    for stratum in sorted(strata):
        families = sorted(strata[stratum])
        count = min(round(share * len(families)), len(families) - 1)
        held.update(families[i] for i in rng.permutation(len(families))[:count])
    if not held:  # fewer families of each kind than a share is worth
        held.add(min(max(strata.values(), key=len)))
    return np.array([workload.family() in held for workload in workloads], bool)


def _judge_networks(
    model: PhaseModel, runner: EngineRunner, graphs: Sequence[Graph]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted and measured cycles of whole networks."""
    predicted: list[float] = []
    for graph in graphs:
        steps = decompose(graph, runner.spec).steps
        rows = feature_matrix([(step.subgraph, step.choice) for step in steps], runner.spec)
        predicted.append(sum(step_cycles(steps, model.predict(rows))))
    measured = [float(runner.measure_network(graph)) for graph in graphs]
    return np.array(predicted), np.array(measured)
