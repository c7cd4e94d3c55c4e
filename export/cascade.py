"""Cascades: which runs of convolutions become chains when SRAM is short.

Steps whose maps do not fit are covered by segments of up to eight consecutive steps. A segment is a single step or a
chain (rolling buffers instead of inner maps); it takes the fastest tiling with which it fits beside everything else
that lives meanwhile, its output on top of its input where that is safe. Dynamic programming over the execution order
finds the segmentation in which the fewest steps do not fit, and of these the fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..common.errors import UnsupportedError
from ..kernels.ops import Conv2d
from ..kernels.search import Candidate, candidates
from ..kernels.subgraph import Memory
from ..targets.spec import EngineSpec
from .graph import Graph
from .overwrite import lags, may_lag
from .partition import Group, first_places, held_map_bytes, in_place_operand, join, lifetimes, use_counts

_LONGEST = 8
_Cost = tuple[int, float, int]  # steps that do not fit, cycles, segments


@dataclass(frozen=True, slots=True)
class _Fit:
    """The best way to run a segment: `cycles` with the `held` bytes of maps and workspace."""

    cycles: float
    held: int


def cascades(graph: Graph, groups: Sequence[Group], spec: EngineSpec, capacity: int) -> list[Group]:
    """The groups with chains where single steps would not fit into `capacity` bytes."""
    return _Cascader(graph, groups, spec, capacity).groups_found()


class _Cascader:
    def __init__(self, graph: Graph, groups: Sequence[Group], spec: EngineSpec, capacity: int) -> None:
        self.graph, self.groups, self.spec, self.capacity = graph, groups, spec, capacity
        self.uses = use_counts(graph)
        self.spans = lifetimes(graph, list(groups))
        self.where = first_places(graph, spec)

    def groups_found(self) -> list[Group]:
        singles = [self._cost(step, step, group) for step, group in enumerate(self.groups)]
        best: list[_Cost] = [(0, 0.0, 0)]
        last: list[tuple[int, Group]] = []
        for end, group in enumerate(self.groups):
            options = [(_sum(best[end], singles[end]), end, group)]
            for start in range(end - 1, max(-1, end - _LONGEST), -1):
                if not self._linked(start):
                    break
                if any(cost[0] for cost in singles[start : end + 1]):
                    chain = join(self.groups[start : end + 1])
                    options.append((_sum(best[start], self._cost(start, end, chain)), start, chain))
            cost, start, chosen = min(options, key=lambda option: option[0])
            best.append(cost)
            last.append((start, chosen))
        return _backwards(last)

    def _linked(self, step: int) -> bool:
        """True when the step after `step` may continue its chain."""
        a, b = self.groups[step], self.groups[step + 1]
        lone = len(a.nodes) == 1 and isinstance(a.ops[0], Conv2d) and isinstance(b.ops[0], Conv2d)
        return lone and b.input == a.output and b.second != a.output and self.uses[a.output] == 1

    def _cost(self, start: int, end: int, group: Group) -> _Cost:
        fit = self._fit(start, end, group)
        if fit is not None:
            return 0, fit.cycles, 1
        steps = end - start + 1
        return (1 if steps == 1 else steps + 1), 0.0, 1  # a chain that does not fit is worse than its steps

    def _fit(self, start: int, end: int, group: Group) -> _Fit | None:
        """The fastest tiling with which the segment fits."""
        subgraph = group.subgraph(self.where)
        try:
            ranked = candidates(subgraph, self.spec)
        except UnsupportedError:
            return None
        spans = self._segment_spans(start, end)
        beside = self._beside(start, end, group)
        inner = sum(self._bytes(name) for name in group.reads)
        in_place = in_place_operand(group, end, spans, self.where) is not None
        own = inner + (0 if in_place else self._bytes(group.output))
        options = [(choice, own) for choice in ranked]
        if may_lag(group, end, spans, self.where):
            second = self._bytes(group.second) if group.second else 0
            options += [(lag.choice, lag.span_bytes + second) for lag in lags(subgraph, self.spec)]
        fits = [_Fit(_cycles(c), beside + maps + c.workspace_bytes) for c, maps in options]
        return min((fit for fit in fits if fit.held <= self.capacity), key=lambda fit: fit.cycles, default=None)

    def _segment_spans(self, start: int, end: int) -> dict[str, tuple[int, int]]:
        """Lifetimes as if the segment were one step, number `end`."""
        return {
            name: (first, max(last, end) if start <= last <= end else last)
            for name, (first, last) in self.spans.items()
        }

    def _beside(self, start: int, end: int, group: Group) -> int:
        """Bytes of resident maps that live during the segment and that it neither reads nor writes."""
        inner = {g.output for g in self.groups[start : end + 1]}
        return sum(
            self._bytes(name)
            for name, (first, last) in self.spans.items()
            if first <= end and last >= start and name not in inner and name not in group.reads
        )

    def _bytes(self, name: str) -> int:
        return held_map_bytes(self.graph, name) if self.where[name] is Memory.SRAM else 0


def _cycles(choice: Candidate) -> float:
    """Of a step whose first loads hide under the step before."""
    return max(choice.estimate.compute, choice.estimate.dma)


def _sum(a: _Cost, b: _Cost) -> _Cost:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _backwards(last: Sequence[tuple[int, Group]]) -> list[Group]:
    found: list[Group] = []
    end = len(last)
    while end > 0:
        start, group = last[end - 1]
        found.append(group)
        end = start
    return found[::-1]
