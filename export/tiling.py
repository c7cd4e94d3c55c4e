"""Settles the best few tilings of the closed-form ranking on the timing model."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from ..kernels.kernel import Role
from ..kernels.pipeline import is_resident_conv, resident_conv
from ..kernels.search import Candidate, candidates
from ..kernels.subgraph import Subgraph
from ..targets.spec import EngineSpec
from ..targets.timing import simulate
from .lower import compile_subgraph

SHORTLIST = 3  # of the ranking by closed form, and of that with hidden loads
WORTH_TIMING = 1.15  # candidates whose closed form is further off than this are not timed
_TIE = 1.01  # within one per cent the smaller workspace wins


@dataclass(frozen=True, slots=True)
class Option:
    """A tiling worth choosing: cycles `alone`, and at `least` however early its weights load. `loading` is how long
    its loads take beside the array: None as long as the step itself, 0 when there are none."""

    choice: Candidate
    alone: float
    least: float
    loading: float | None

    def cycles(self, lead: float) -> float:
        """Of the step when its weights may load from `lead` cycles before it on."""
        return max(self.least, self.alone - lead)


class Chooser:
    """Chooses the tiling of one step after the other, in execution order.

    It keeps the time at which the array is free and the load queue idle: weights that load while the step before
    computes cost nothing, so that larger tiles, which the array works through faster, win where that step is long.

    A weight decoder makes loads shorter, but by how much the weights say, which no plan sees. With `shortened`,
    tilings are judged by the mean of their cycles with loads of plain records and with none at all.
    """

    def __init__(self, spec: EngineSpec, *, shortened: bool = False) -> None:
        self._spec, self._shortened = spec, shortened
        self._began = self._free = self._loaded = 0.0

    def choose(self, subgraph: Subgraph, limit_bytes: float) -> Candidate | None:
        """Of the tilings whose workspace fits into `limit_bytes`, the one with which the step ends first; near ties
        take less memory. None where none fits."""
        found = options(subgraph, self._spec, limit_bytes, shortened=self._shortened)
        return self._settle(found) if found else None

    def accept(self, subgraph: Subgraph, choice: Candidate) -> Candidate:
        """Takes `choice` as it is."""
        return self._settle((_option(subgraph, self._spec, choice),))

    def _settle(self, options: Sequence[Option]) -> Candidate:
        lead = max(0.0, self._free - max(self._loaded, self._began))
        timed = [(self._judged(option, lead), option) for option in options]
        best = min(cycles for cycles, _ in timed)
        _, option = min((t for t in timed if t[0] <= best * _TIE), key=lambda t: t[1].choice.workspace_bytes)
        cycles = option.cycles(lead)
        self._began, self._free = self._free, self._free + cycles
        if option.loading != 0:
            loading = cycles + lead if option.loading is None else option.loading
            self._loaded = max(self._loaded, self._began - lead + loading)
        return option.choice

    def _judged(self, option: Option, lead: float) -> float:
        plain = option.cycles(lead)
        return (plain + option.choice.estimate.compute) / 2 if self._shortened else plain


def options(subgraph: Subgraph, spec: EngineSpec, limit_bytes: float, *, shortened: bool = False) -> tuple[Option, ...]:
    """The best few tilings whose workspace fits into `limit_bytes`; none where none does."""
    limits = workspaces(subgraph, spec)
    rank = bisect_right(limits, limit_bytes)
    return _options(subgraph, spec, limits[rank - 1], shortened=shortened) if rank else ()


@lru_cache(maxsize=50_000)
def workspaces(subgraph: Subgraph, spec: EngineSpec) -> tuple[int, ...]:
    """What the workspaces of its tilings take, ascending: between two of them the room makes no difference."""
    return tuple(sorted({choice.workspace_bytes for choice in candidates(subgraph, spec)}))


@lru_cache(maxsize=100_000)
def _options(subgraph: Subgraph, spec: EngineSpec, limit_bytes: int, *, shortened: bool) -> tuple[Option, ...]:
    """The best few of the tilings (ranked by closed form) that fit into `limit_bytes`."""
    fitting = [choice for choice in candidates(subgraph, spec) if choice.workspace_bytes <= limit_bytes]
    return tuple(_option(subgraph, spec, choice) for choice in _shortlist(fitting, shortened=shortened))


def _shortlist(fitting: Sequence[Candidate], *, shortened: bool) -> list[Candidate]:
    bare = sorted(fitting, key=lambda c: (c.estimate.compute, c.workspace_bytes)) if shortened else []
    hidden = sorted(fitting, key=lambda c: (max(c.estimate.compute, c.estimate.dma), c.workspace_bytes))
    found = dict.fromkeys((*fitting[:SHORTLIST], *hidden[:SHORTLIST], *bare[:SHORTLIST]))
    limit = fitting[0].estimate.cycles * WORTH_TIMING
    return [choice for choice in found if max(choice.estimate.compute, choice.estimate.dma) <= limit]


def _option(subgraph: Subgraph, spec: EngineSpec, choice: Candidate) -> Option:
    alone, roles = isolated_cycles(subgraph, spec, choice), {buffer.role for buffer in choice.buffers}
    resident = is_resident_conv(subgraph, choice.tiling)
    if resident:
        least = resident_conv(subgraph, choice.tiling, spec, ahead=True).ended
    else:
        least = choice.estimate.compute if Role.WEIGHTS in roles else alone
    if roles.isdisjoint((Role.WEIGHTS, Role.INCOMING)):
        return Option(choice, alone, least, 0.0)
    held = resident and Role.INCOMING not in roles
    return Option(choice, alone, least, resident_conv(subgraph, choice.tiling, spec).loaded if held else None)


@lru_cache(maxsize=200_000)
def isolated_cycles(subgraph: Subgraph, spec: EngineSpec, choice: Candidate) -> int:
    """What the timing model says of the subgraph alone; by recurrence where that gives the same number sooner."""
    if is_resident_conv(subgraph, choice.tiling):
        span = resident_conv(subgraph, choice.tiling, spec)
        return ceil(max(span.ended, span.loaded))
    return simulate(compile_subgraph(subgraph, spec, choice)).cycles
