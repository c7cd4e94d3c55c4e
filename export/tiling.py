"""Settles the best few tilings of the closed-form ranking on the timing model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

from ..kernels.pipeline import is_resident_conv, resident_conv
from ..kernels.search import Candidate
from ..kernels.subgraph import Subgraph
from ..targets.spec import EngineSpec
from ..targets.timing import simulate
from .lower import compile_subgraph

_SHORTLIST = 3
_WORTH_TIMING = 1.15  # candidates whose closed form is further off than this are not timed
_TIE = 1.01  # within one per cent the smaller workspace wins


def choose(subgraph: Subgraph, spec: EngineSpec, fitting: Sequence[Candidate]) -> Candidate:
    """The fastest of `fitting` (ranked by closed form), timed in isolation; near ties go to the smaller workspace."""
    limit = fitting[0].estimate.cycles * _WORTH_TIMING
    shortlist = tuple(c for c in fitting[:_SHORTLIST] if c.estimate.cycles <= limit)
    return shortlist[0] if len(shortlist) == 1 else _settle(subgraph, spec, shortlist)


@lru_cache(maxsize=200_000)
def _settle(subgraph: Subgraph, spec: EngineSpec, shortlist: tuple[Candidate, ...]) -> Candidate:
    timed = [(isolated_cycles(subgraph, spec, c), c) for c in shortlist]
    best = min(cycles for cycles, _ in timed)
    return min((c for cycles, c in timed if cycles <= best * _TIE), key=lambda c: c.workspace_bytes)


def isolated_cycles(subgraph: Subgraph, spec: EngineSpec, choice: Candidate) -> int:
    """What the timing model says of the subgraph alone; by recurrence where that gives the same number sooner."""
    if is_resident_conv(subgraph, choice.tiling):
        span = resident_conv(subgraph, choice.tiling, spec)
        return ceil(max(span.ended, span.loaded))
    return simulate(compile_subgraph(subgraph, spec, choice)).cycles
