"""Screening: the latency of very many networks from the blocks that they share.

`NetworkEstimator` plans every network as the compiler would, which takes milliseconds. Here a block is prepared once:
each of its steps gets the tilings that fit beside the block's own maps. A network then is a walk over prepared steps,
in which weights load while the step before computes, and nothing is placed. What this leaves out (weights that load
further ahead, stores that drain) is made up for by a factor learned from networks that the exact estimator estimated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf

import numpy as np

from ..common.errors import EstimatorError
from ..common.units import cycles_to_us
from ..export.graph import Graph
from .network import NetworkEstimator
from .pieces import Piece
from .preparation import Preparation, Way
from .validity import conformal_factor

_LEAST_NETWORKS = 8
_REMEMBERED = 65_536  # blocks
_AHEAD = 4  # begins that are remembered: weights load from the third step before on


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


class ScreeningEstimator:
    """Screens networks of the engine that `exact` was fitted for. What it remembers of blocks and steps is bounded."""

    def __init__(self, exact: NetworkEstimator, factor: float = 1.0, upper: float = 1.0) -> None:
        self.spec, self.factor, self.upper = exact.spec, factor, upper
        self._prepared = lru_cache(maxsize=_REMEMBERED)(Preparation(exact.spec).of)

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
        prepared = list(map(self._prepared, pieces))
        sram_bytes = weight_bytes = macs = 0
        steps: list[tuple[Way, ...]] = []
        for part in prepared:
            steps += part.steps
            sram_bytes = max(sram_bytes, part.sram_bytes)
            weight_bytes += part.weight_bytes
            macs += part.macs
        if not all(steps):
            return Screened(None, None, sram_bytes, weight_bytes, macs)
        latency_us = cycles_to_us(_walk(steps), self.spec.clock_mhz) * self.factor
        return Screened(latency_us, latency_us * self.upper, sram_bytes, weight_bytes, macs)


def _walk(steps: Iterable[tuple[Way, ...]]) -> float:
    """Cycles of all steps. Each takes the tiling with which it ends first, its weights loading since `_AHEAD` steps
    before, or since the queue of loads was empty."""
    ended = loaded = 0.0
    begins = deque([0.0], maxlen=_AHEAD)
    for step in steps:
        begin = begins[0]
        lead = ended - (loaded if loaded > begin else begin)
        if lead < 0:
            lead = 0.0
        cycles, loading = inf, None
        for alone, least, loads in step:
            taken = alone - lead
            if taken < least:
                taken = least
            if taken < cycles:
                cycles, loading = taken, loads
        begins.append(ended)
        if loading != 0:
            last = ended - lead + (cycles + lead if loading is None else loading)
            if last > loaded:
                loaded = last
        ended += cycles
    return ended
