"""Settles the best few tilings of the closed-form ranking on the timing model."""

from __future__ import annotations

from functools import lru_cache

from ..kernels.search import Candidate
from ..kernels.subgraph import Subgraph
from ..targets.spec import EngineSpec
from ..targets.timing import simulate
from .lower import compile_subgraph

_SHORTLIST = 3
_WORTH_TIMING = 1.15  # candidates whose closed form is further off than this are not timed
_TIE = 1.01  # within one per cent the smaller workspace wins


@lru_cache(maxsize=200_000)
def choose(subgraph: Subgraph, spec: EngineSpec, fitting: tuple[Candidate, ...]) -> Candidate:
    """The fastest of `fitting` (ranked by closed form), timed in isolation; near ties go to the smaller workspace."""
    limit = fitting[0].estimate.cycles * _WORTH_TIMING
    shortlist = [c for c in fitting if c.estimate.cycles <= limit][:_SHORTLIST]
    if len(shortlist) == 1:
        return shortlist[0]
    timed = [(simulate(compile_subgraph(subgraph, spec, c)).cycles, c) for c in shortlist]
    best = min(cycles for cycles, _ in timed)
    return min((c for cycles, c in timed if cycles <= best * _TIE), key=lambda c: c.workspace_bytes)
