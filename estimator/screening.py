"""Screening: the latency of very many networks from the blocks that they share.

`NetworkEstimator` plans every network as the compiler would, which takes milliseconds. Here a block is prepared once:
each of its steps gets the tilings that fit beside the block's own maps. A network then is a walk over prepared steps,
in which weights load while the step before computes, and nothing is placed. What this leaves out (weights that load
further ahead, stores that drain) is made up for by a factor learned from networks that the exact estimator estimated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from weakref import WeakKeyDictionary

import numpy as np

from ..common.errors import EstimatorError
from ..common.units import cycles_to_us
from ..export.graph import Graph
from ..export.partition import partition, resident_bytes
from ..export.tiling import Option, options
from ..kernels.kernel import held_bytes
from ..kernels.subgraph import Memory
from ..targets.spec import EngineSpec
from .network import NetworkEstimator
from .validity import conformal_factor

_LEAST_NETWORKS = 8
_AHEAD = 4  # begins that are remembered: weights load from the third step before on


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Piece:
    """A block of a network: `build` gives its graph, with one input and one output, at the `first` or `last` place or
    in between. It equals only itself, so that what was prepared of it is found without comparing graphs."""

    build: Callable[[], Graph]
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class Screened:
    """A network seen from afar. `latency_upper_us` is exceeded by about one latency in twenty; of a network that is
    not `resident` (some step cannot hold its maps and its smallest workspace in SRAM) nothing is known but its sizes,
    and both latencies are None. `sram_bytes` holds every map and the smallest workspaces: more lets a plan go
    faster, and with less maps move to DRAM."""

    latency_us: float | None
    latency_upper_us: float | None
    sram_bytes: int
    weight_bytes: int
    macs: int

    @property
    def resident(self) -> bool:
        return self.latency_us is not None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """`steps` hold the tilings of each step, none where none fits."""

    steps: tuple[tuple[Option, ...], ...]
    sram_bytes: int
    weight_bytes: int
    macs: int


class ScreeningEstimator:
    """Screens networks of the engine that `exact` was fitted for."""

    def __init__(self, exact: NetworkEstimator, factor: float = 1.0, upper: float = 1.0) -> None:
        self.spec, self.factor, self.upper = exact.spec, factor, upper
        self._known: WeakKeyDictionary[Piece, _Prepared] = WeakKeyDictionary()

    @classmethod
    def fit(
        cls, exact: NetworkEstimator, networks: Sequence[Sequence[Piece]], graphs: Sequence[Graph]
    ) -> ScreeningEstimator:
        """Learns the factor and its bound from networks given both ways, as pieces and whole.

        Raises:
            EstimatorError: fewer than eight of the networks keep their maps in SRAM.
        """
        plain = cls(exact)
        pairs = [
            (estimate.latency_us, found.latency_us)
            for found, estimate in zip(map(plain.estimate, networks), exact.estimate_many(graphs), strict=True)
            if found.latency_us is not None
        ]
        if len(pairs) < _LEAST_NETWORKS:
            raise EstimatorError(
                f"{len(pairs)} of {len(networks)} networks keep their maps in SRAM; screening needs {_LEAST_NETWORKS}",
                hint="use the exact estimator, or an engine with more SRAM",
            )
        ratios = np.array([known / raw for known, raw in pairs])
        factor = float(np.median(ratios))
        return cls(exact, factor, conformal_factor((ratios / factor).tolist()) * exact.card.network_upper)

    def estimate(self, pieces: Sequence[Piece]) -> Screened:
        """The network of these blocks in a row."""
        prepared = [self._prepare(piece) for piece in pieces]
        sizes = (
            max(part.sram_bytes for part in prepared),
            sum(part.weight_bytes for part in prepared),
            sum(part.macs for part in prepared),
        )
        if not all(step for part in prepared for step in part.steps):
            return Screened(None, None, *sizes)
        cycles = _walk([step for part in prepared for step in part.steps])
        latency_us = cycles_to_us(cycles, self.spec.clock_mhz) * self.factor
        return Screened(latency_us, latency_us * self.upper, *sizes)

    def _prepare(self, piece: Piece) -> _Prepared:
        found = self._known.get(piece)
        if found is None:
            found = self._known[piece] = _prepare(piece, self.spec)
        return found


def _walk(steps: Iterable[tuple[Option, ...]]) -> float:
    """Cycles of all steps. Each takes the tiling with which it ends first, its weights loading since `_AHEAD` steps
    before, or since the queue of loads was empty."""
    ended = loaded = 0.0
    begins = deque([0.0], maxlen=_AHEAD)
    for step in steps:
        lead = max(0.0, ended - max(loaded, begins[0]))
        best, cycles = step[0], inf
        for option in step:
            taken = option.alone - lead
            if taken < option.least:
                taken = option.least
            if taken < cycles:
                best, cycles = option, taken
        begins.append(ended)
        if best.loading != 0:
            loading = cycles + lead if best.loading is None else best.loading
            loaded = max(loaded, ended - lead + loading)
        ended += cycles
    return ended


def _useful(found: Sequence[Option]) -> tuple[Option, ...]:
    """Without those that another one beats however early weights load."""
    kept: list[Option] = []
    for option in sorted(found, key=lambda o: (o.alone, o.least, o.choice.workspace_bytes)):
        if not kept or option.least < kept[-1].least:
            kept.append(option)
    return tuple(kept)


def _prepare(piece: Piece, spec: EngineSpec) -> _Prepared:
    graph = piece.build()
    where = dict.fromkeys(graph.tensors, Memory.SRAM)
    if spec.io_memory != "sram":
        where |= dict.fromkeys(graph.inputs, Memory.HOST) if piece.first else {}
        where |= dict.fromkeys(graph.outputs, Memory.HOST) if piece.last else {}
    groups = partition(graph, spec, where=where)
    live = resident_bytes(graph, groups, where)
    subgraphs = [group.subgraph(where) for group in groups]
    steps = [_useful(options(s, spec, spec.sram_bytes - held)) for s, held in zip(subgraphs, live, strict=True)]
    least = [min((o.choice.workspace_bytes for o in step), default=0) for step in steps]
    return _Prepared(
        tuple(steps),
        max(held + workspace for held, workspace in zip(live, least, strict=True)),
        sum(held_bytes(op) for subgraph in subgraphs for op in subgraph.ops),
        graph.macs,
    )
