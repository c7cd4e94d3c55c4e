"""Settles the best few tilings of the closed-form ranking on the timing model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

from ..kernels.kernel import Role
from ..kernels.pipeline import is_resident_conv, resident_conv
from ..kernels.search import Candidate
from ..kernels.subgraph import Subgraph
from ..targets.spec import EngineSpec
from ..targets.timing import simulate
from .lower import compile_subgraph

_SHORTLIST = 3  # of the ranking by closed form, and of that with hidden loads
_WORTH_TIMING = 1.15  # candidates whose closed form is further off than this are not timed
_TIE = 1.01  # within one per cent the smaller workspace wins


class Chooser:
    """Chooses the tiling of one step after the other, in execution order.

    It keeps the time at which the array is free and the load queue idle: weights that load while the step before
    computes cost nothing, so that larger tiles, which the array works through faster, win where that step is long.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._began = self._free = self._loaded = 0.0

    def choose(self, subgraph: Subgraph, fitting: Sequence[Candidate]) -> Candidate:
        """The one of `fitting` (ranked by closed form) with which the step ends first; near ties take less memory."""
        lead = max(0.0, self._free - max(self._loaded, self._began))
        timed = [(_step_cycles(subgraph, self._spec, c, lead), c) for c in _shortlist(fitting)]
        best = min(cycles for cycles, _ in timed)
        cycles, choice = min((t for t in timed if t[0] <= best * _TIE), key=lambda t: t[1].workspace_bytes)
        self._advance(subgraph, choice, cycles, lead)
        return choice

    def _advance(self, subgraph: Subgraph, choice: Candidate, cycles: float, lead: float) -> None:
        self._began, self._free = self._free, self._free + cycles
        roles = {buffer.role for buffer in choice.buffers}
        if roles.isdisjoint((Role.WEIGHTS, Role.INCOMING)):
            return
        held = Role.INCOMING not in roles and is_resident_conv(subgraph, choice.tiling)
        loading = resident_conv(subgraph, choice.tiling, self._spec).loaded if held else cycles + lead
        self._loaded = max(self._loaded, self._began - lead + loading)


def _shortlist(fitting: Sequence[Candidate]) -> list[Candidate]:
    hidden = sorted(fitting, key=lambda c: (max(c.estimate.compute, c.estimate.dma), c.workspace_bytes))
    found = dict.fromkeys((*fitting[:_SHORTLIST], *hidden[:_SHORTLIST]))
    limit = fitting[0].estimate.cycles * _WORTH_TIMING
    return [choice for choice in found if max(choice.estimate.compute, choice.estimate.dma) <= limit]


def _step_cycles(subgraph: Subgraph, spec: EngineSpec, choice: Candidate, lead: float) -> float:
    """Cycles of the step when its weights may load from `lead` cycles before it on."""
    alone = isolated_cycles(subgraph, spec, choice)
    if is_resident_conv(subgraph, choice.tiling):
        return max(resident_conv(subgraph, choice.tiling, spec, ahead=True).ended, alone - lead)
    weights = any(buffer.role is Role.WEIGHTS for buffer in choice.buffers)
    return max(choice.estimate.compute, alone - lead) if weights else alone


@lru_cache(maxsize=200_000)
def isolated_cycles(subgraph: Subgraph, spec: EngineSpec, choice: Candidate) -> int:
    """What the timing model says of the subgraph alone; by recurrence where that gives the same number sooner."""
    if is_resident_conv(subgraph, choice.tiling):
        span = resident_conv(subgraph, choice.tiling, spec)
        return ceil(max(span.ended, span.loaded))
    return simulate(compile_subgraph(subgraph, spec, choice)).cycles
