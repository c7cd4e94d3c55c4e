"""Calibration of a device from pieces of networks, actively chosen; no network is run as a whole.

Pieces of one to eight operators are cut out of the executed graphs of sample networks. Most are measured as cold as
they are inside of their network: before each run as much memory is swept through the caches as the rest of the
network touches. The others are measured warm, which separates the cost of a run from that of cold paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.errors import EstimatorError
from .additive import AdditiveModel, Deviations, Operators, covariance, fit_additive
from .choice import choose, shares
from .cut import Slice
from .doubts import doubts, median_error
from .executed import ExecutedGraph
from .memory import footprint_bytes, gone, terms
from .operator_costs import FAMILIES, OperatorCosts, Sum, fit_costs
from .passes import is_joined
from .protocol import Protocol, measure, settled
from .sessions import LiveRunner, Session
from .steadiness import Gauge
from .store import LiveMeasurement, LiveStore
from .work import is_view

PIECES = Protocol(min_visits=6, max_visits=12, visit_us=3_000, max_runs_per_visit=15)
"""For pieces: few runs in a visit, since a sweep before each takes longer than most of them."""
_LENGTHS = (1, 2, 3, 4, 6, 8)
_WARM_EVERY = 5  # one piece in so many is measured without a sweep
# µs before anything is known: a processor core of today, within a factor of 3
_GUESS = (0.5, 20.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0)
_DOUBT = Deviations(smooth=0.3, own=0.1, noise=0.03, length=3.0)
_KIND_DOUBT = 0.5
_WAKING_US = 1.0  # by so much the time to wake a thread differs from piece to piece


@dataclass(frozen=True, slots=True)
class Budget:
    """How much to measure: `measurements` pieces in `rounds`; each round is chosen in view of those before."""

    measurements: int = 280
    rounds: int = 4
    candidates: int = 4000
    batch: int = 35  # pieces that are measured together, interleaved, and stored together


@dataclass(frozen=True)
class Piece:
    """A candidate: a slice of a sample network, and the bytes that the rest of that network touches."""

    slice: Slice
    footprint: float
    sweep_bytes: int

    def definition(self, caches: Sequence[int]) -> Sum:
        found = terms(self.slice.nodes, caches, footprint=self.footprint if self.sweep_bytes else None)
        ports = len(self.slice.inputs()) + len(self.slice.outputs())
        between = self.footprint if self.sweep_bytes else footprint_bytes(self.slice.nodes)
        return Sum(tuple(found), ports, _coldness(between, caches))


def network_sum(graph: ExecutedGraph, caches: Sequence[int]) -> Sum:
    """A whole network as the model sees it."""
    cold = _coldness(footprint_bytes(graph.nodes), caches)
    return Sum(tuple(terms(graph.nodes, caches)), len(graph.inputs) + len(graph.outputs), cold)


def _coldness(footprint: float, caches: Sequence[int]) -> float:
    return gone(footprint, caches[0]) if caches else 0.0


def pieces(graphs: Sequence[ExecutedGraph], count: int, *, seed: int, shortest: int = 1) -> list[Piece]:
    """At most `count` different pieces, drawn uniformly over the places of all graphs; none is half a network, and none
    has fewer than `shortest` operators where there are longer ones."""
    generator = np.random.default_rng(seed)
    places = [
        (number, start, start + length)
        for number, graph in enumerate(graphs)
        for length in _LENGTHS
        if length >= min(shortest, max(len(graph.nodes) // 2, 1))
        if 2 * length <= max(len(graph.nodes), 4)
        for start in range(len(graph.nodes) - length + 1)
    ]
    if not places:
        raise EstimatorError("the sample networks have no operators to measure", hint="give larger networks")
    footprints = [footprint_bytes(graph.nodes) for graph in graphs]
    found: dict[tuple[str, ...], Piece] = {}
    for position, place in enumerate(generator.permutation(len(places)).tolist()):
        number, start, stop = places[place]
        cut = Slice(graphs[number], start, stop)
        if not _has_firm_border(cut):
            continue
        rest = max(0, int(footprints[number] - footprint_bytes(cut.nodes)))
        warm = position % _WARM_EVERY == 0
        key = (str(warm), *(node.operator.digest for node in cut.nodes))
        found.setdefault(key, Piece(cut, footprints[number], 0 if warm else rest))
        if len(found) == count:
            break
    return list(found.values())


def _has_firm_border(cut: Slice) -> bool:
    """False where a view would cross the border: inside of a network it moves nothing, there it would copy. Nor is an
    operator cut off from the pass that it is a part of."""
    inputs, outputs = set(cut.inputs()), set(cut.outputs())
    made = {name for node in cut.nodes for name in node.outputs}
    if any(is_joined(node.operator) and not made.intersection(node.inputs) for node in cut.nodes):
        return False
    views = [node for node in cut.nodes if is_view(node.operator)]
    return not any(inputs & set(node.inputs) or outputs & set(node.outputs) for node in views)


def calibrate(
    runner: LiveRunner,
    graphs: Sequence[ExecutedGraph],
    store: LiveStore,
    *,
    caches: Sequence[int],
    budget: Budget | None = None,
    protocol: Protocol | None = None,
    reference: Gauge | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AdditiveModel:
    """Measures what the budget allows, beginning where an interrupted calibration with this store stopped.

    Raises:
        EstimatorError: no samples, or a store with another device's data only.
        ToolchainError: the runtime refuses a piece.
    """
    plan, rules = budget or Budget(), protocol or settled(PIECES, runner.threads)
    # How a run begins counts as a single operator's own, 0.4 µs too much for each; with several threads, which tell
    # operators apart less well, leaving them out does more harm.
    candidates = pieces(graphs, plan.candidates, seed=seed, shortest=1 if runner.threads > 1 else 2)
    definitions = [piece.definition(caches) for piece in candidates]
    targets = [network_sum(graph, caches) for graph in graphs]
    known = _known(store, runner)
    done: list[LiveMeasurement] = []  # in the order of choice: a resumed calibration chooses what the first one chose
    while len(done) < plan.measurements:
        quota = min(-(-plan.measurements // plan.rounds), plan.measurements - len(done))
        taken = {m.definition.digest for m in done}
        fresh = [i for i, definition in enumerate(definitions) if definition.digest not in taken]
        if not fresh:
            break
        picks = next_pieces(targets, [definitions[i] for i in fresh], done, quota)
        chosen = [fresh[pick] for pick in picks]
        missing = [i for i in chosen if definitions[i].digest not in known]
        for part in _parts(missing, plan.batch):
            _measure_batch(runner, store, [(candidates[i], definitions[i]) for i in part], rules, reference, seed)
            known = _known(store, runner)
            if any(definitions[i].digest not in known for i in part):
                raise EstimatorError("the store does not keep what is measured", where=str(store.path))
            progress(min(len(known), plan.measurements), plan.measurements)
        done += [known[definitions[i].digest] for i in chosen]
    return fit([*done, *_others(known, done)], runner.threads)


def _others(known: Mapping[str, LiveMeasurement], done: Sequence[LiveMeasurement]) -> list[LiveMeasurement]:
    """Measurements of earlier calibrations with this store, of other samples for example: they teach too."""
    taken = {m.definition.digest for m in done}
    return [measurement for digest, measurement in known.items() if digest not in taken]


def fit(measurements: Sequence[LiveMeasurement], threads: int = 1) -> AdditiveModel:
    """The model of measured pieces; those whose visits differ count less.

    With several threads each run begins by waking them, now longer, now shorter, so that short pieces tell less.
    """
    latencies = np.array([m.measured.latency_us for m in measurements])
    errors = np.array([median_error(m.measured.samples_us) for m in measurements])
    weights = doubts(latencies, errors, _WAKING_US if threads > 1 else 0.0)
    return fit_additive([m.definition for m in measurements], latencies.tolist(), weights.tolist())


def next_pieces(
    targets: Sequence[Sum], candidates: Sequence[Sum], measured: Sequence[LiveMeasurement], count: int
) -> list[int]:
    """Numbers of the candidates to measure next, in view of what has been measured."""
    done = [m.definition for m in measured]
    operators = Operators([*targets, *candidates, *done])
    costs = _costs(measured).operators_us(operators.works)
    prior = covariance(operators.works, operators.works, _DOUBT)
    kinds = np.array([work.kind for work in operators.works])
    prior += _KIND_DOUBT**2 * (kinds[:, None] == kinds[None, :])
    prior[np.diag_indices_from(prior)] += _DOUBT.own**2
    rows = [shares(operators.counts(sums) * costs) if sums else _none(costs) for sums in (targets, candidates, done)]
    return choose(rows[0], rows[1], rows[2], prior, noise=_DOUBT.noise, count=count)


def _none(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.zeros((0, len(costs)))


def _costs(measured: Sequence[LiveMeasurement]) -> OperatorCosts:
    if len(measured) < 10:
        return OperatorCosts({}, dict.fromkeys(FAMILIES, _GUESS), ())
    latencies = np.array([m.measured.latency_us for m in measured])
    return fit_costs([m.definition for m in measured], latencies)


def _known(store: LiveStore, runner: LiveRunner) -> dict[str, LiveMeasurement]:
    found = store.all(device=runner.device, toolchain=runner.toolchain, subject="subgraph")
    return {m.definition.digest: m for m in found}


def _parts(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _measure_batch(
    runner: LiveRunner,
    store: LiveStore,
    batch: Sequence[tuple[Piece, Sum]],
    protocol: Protocol,
    reference: Gauge | None,
    seed: int,
) -> None:
    with ExitStack() as stack:
        sessions: dict[str, Session] = {}
        for piece, definition in batch:
            session = runner.prepare(piece.slice.model(), sweep_bytes=piece.sweep_bytes)
            stack.callback(session.close)
            sessions[definition.digest] = session
        state = runner.state()
        with runner.ready():
            found = measure(sessions, protocol, reference=reference, seed=seed)
    definitions = {definition.digest: definition for _, definition in batch}
    store.add(
        LiveMeasurement("subgraph", "", runner.device, runner.toolchain, definitions[digest], measured, state)
        for digest, measured in found.items()
    )


def measure_networks(
    runner: LiveRunner,
    graphs: Mapping[str, ExecutedGraph],
    store: LiveStore,
    *,
    caches: Sequence[int],
    protocol: Protocol | None = None,
    reference: Gauge | None = None,
    batch: int = 20,
    seed: int = 0,
) -> dict[str, LiveMeasurement]:
    """Whole networks, each stored as soon as its batch is measured; those already in the store are not repeated."""
    names, rules = list(graphs), protocol or settled(Protocol(), runner.threads)
    for start in range(0, len(names), batch):
        known = {m.name for m in store.all(device=runner.device, toolchain=runner.toolchain, subject="network")}
        missing = [name for name in names[start : start + batch] if name not in known]
        with ExitStack() as stack:
            sessions: dict[str, Session] = {}
            for name in missing:
                sessions[name] = runner.prepare(graphs[name].model)
                stack.callback(sessions[name].close)
            state = runner.state()
            with runner.ready():
                found = measure(sessions, rules, reference=reference, seed=seed)
        store.add(
            LiveMeasurement(
                "network", name, runner.device, runner.toolchain, network_sum(graphs[name], caches), measured, state
            )
            for name, measured in found.items()
        )
    stored = store.all(device=runner.device, toolchain=runner.toolchain, subject="network")
    return {m.name: m for m in stored if m.name in graphs}
