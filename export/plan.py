"""The memory plan: which maps stay in SRAM, which tiling each subgraph gets, and every address.

1. Every map between subgraphs starts in SRAM. While some step cannot hold its maps and its smallest workspace, its
   output overwrites its input with a lag (`overwrite.py`) or, where that does not help, the largest map that lives
   there moves to DRAM.
2. Each subgraph gets the fastest tiling that its step has room for.
3. Weights load ahead and outgoing tiles drain late where that is worth its SRAM (`overlap.py`,
   `priced.py`), and blocks are placed.

All of it follows from shapes and the engine, never from weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from ..common.errors import UnsupportedError
from ..common.optimise import Optimise
from ..kernels.kernel import Role
from ..kernels.search import Candidate
from ..kernels.subgraph import Memory, Subgraph
from ..targets.spec import EngineSpec
from .allocate import Block, Joined, allocate, live_bytes, widest
from .cascade import cascades
from .graph import Graph
from .overlap import Overlap, Timetable, with_slots
from .overwrite import Lag, lags, may_lag
from .partition import (
    Group,
    first_places,
    fuse_additions,
    held_map_bytes,
    in_place_operand,
    lifetimes,
    partition,
    tilings,
)
from .planned import Plan, PlannedStep, buffer_name
from .priced import Market, Priced
from .squeeze import smallest
from .tiling import Chooser

_NEARLY_FULL = 0.8  # steps that hold so much of the largest sum of maps may be what does not fit
_NEARLY_AS_FAST = 1.02
_WORTH_A_LAG = 0.97
_ROOMS = (1.0, 0.7, 0.4)  # of the free SRAM that workspaces may use, when placement is fragmented


def plan(
    graph: Graph, spec: EngineSpec, *, sram_limit_bytes: int | None = None, optimise: Optimise = Optimise.LATENCY
) -> Plan:
    """Plans the whole graph into `sram_limit_bytes` (default: all SRAM of the engine).

    Raises:
        UnsupportedError: naming the node whose smallest tile does not fit.
    """
    capacity = min(spec.sram_bytes, sram_limit_bytes or spec.sram_bytes)
    try:
        fast = _plan(graph, spec, capacity, wide=False)
    except UnsupportedError:
        if spec.spill:
            raise
        fast = _plan(graph, spec, capacity, wide=True)  # where no map can leave SRAM, longer chains may still do
    if optimise is Optimise.LATENCY:
        return fast
    return smallest(graph, spec, fast, lambda limit: _plan(graph, spec, limit, wide=True))


def _plan(graph: Graph, spec: EngineSpec, capacity: int, *, wide: bool) -> Plan:
    """`wide`: any run of convolutions may become a chain, not only bottlenecks."""
    if wide:
        groups: Sequence[Group] = cascades(graph, fuse_additions(graph), spec, capacity)
    else:
        groups = partition(graph, spec, sram_bytes=capacity)
    return _Planner(graph, groups, spec, capacity, wide=wide).plan()


@dataclass(frozen=True, slots=True)
class _Maps:
    """Where maps lie, and which steps let their output overwrite their input with a lag."""

    where: dict[str, Memory]
    lags: Mapping[int, Lag] = field(default_factory=dict)


class _Planner:
    def __init__(self, graph: Graph, groups: Sequence[Group], spec: EngineSpec, capacity: int, *, wide: bool) -> None:
        self.graph, self.groups, self.spec, self.capacity, self.wide = graph, groups, spec, capacity, wide
        self.spans = lifetimes(graph, list(groups))

    def plan(self) -> Plan:
        passed = dict.fromkeys(
            name for group in self.groups for name in (*group.reads, group.output, *group.nodes[-1].extra)
        )
        places = first_places(self.graph, self.spec)
        where = dict.fromkeys(self.graph.inputs, Memory.HOST)  # for those that nothing reads
        where |= {name: places[name] for name in (*passed, *map(self.graph.root, passed))}
        maps = self._settle(_Maps(where))
        maps = self._hastened(maps) if self.wide else maps
        while True:
            for room in _ROOMS:
                if found := self._try(maps, room):
                    return found
            maps = self._settle(self._relieved(maps))  # fragmentation that smaller tiles do not cure

    def _settle(self, maps: _Maps) -> _Maps:
        """Lags and spills until every step holds its maps and its smallest workspace."""
        while True:
            excess = self._excess(maps)
            worst = max(range(len(self.groups)), key=lambda step: excess[step])
            if excess[worst] <= 0:
                return maps
            lagged = self._lagged(maps, worst, excess[worst]) if worst not in maps.lags else None
            maps = lagged or self._spill(maps, worst)

    def _hastened(self, maps: _Maps) -> _Maps:
        """Lags also where a step would fit without, if the room that they make lets it run faster."""
        for step, group in enumerate(self.groups):
            if step in maps.lags or not may_lag(group, step, self.spans, maps.where):
                continue
            room = self.capacity - self._live(maps)[step]
            plain = min(_hidden_cycles(c) for c in self._choices(maps, step) if c.workspace_bytes <= room)
            better = self._lagged(maps, step, 1)
            if better and _hidden_cycles(better.lags[step].choice) < _WORTH_A_LAG * plain:
                maps = better
        return maps

    def _relieved(self, maps: _Maps) -> _Maps:
        """One more output overwrites its input, at the fullest step where that is possible, or one more map spills."""
        live = self._live(maps)
        by_size = sorted(range(len(live)), key=lambda step: -live[step])
        fullest = [step for step in by_size if live[step] >= _NEARLY_FULL * live[by_size[0]]]
        found = (self._lagged(maps, step, 1) for step in fullest)
        return next((better for better in found if better), None) or self._spill(maps, by_size[0])

    def _excess(self, maps: _Maps) -> list[int]:
        live = self._live(maps)
        return [live[step] + self._least(maps, step) - self.capacity for step in range(len(self.groups))]

    def _least(self, maps: _Maps, step: int) -> int:
        return min(choice.workspace_bytes for choice in self._choices(maps, step))

    def _choices(self, maps: _Maps, step: int) -> tuple[Candidate, ...]:
        lag = maps.lags.get(step)
        return (lag.choice,) if lag else tilings(self.groups[step], maps.where, self.spec)

    def _lagged(self, maps: _Maps, step: int, excess: int) -> _Maps | None:
        """The step with a lag, or a narrower one than before; None where none helps.

        Of the lags with which the step fits, or else of those that come nearest, nearly the fastest: the one that
        keeps all maps that overwrite each other closest together.
        """
        group = self.groups[step]
        if not may_lag(group, step, self.spans, maps.where):
            return None
        before = maps.lags.get(step)
        options: list[tuple[int, float, int, _Maps]] = []
        for lag in lags(group.subgraph(maps.where), self.spec):
            changed = replace(maps, lags={**maps.lags, step: lag})
            layout = self._layout(changed)
            held = live_bytes(*layout, steps=len(self.groups))[step] + lag.choice.workspace_bytes
            over = max(held, width := widest(*layout)) - self.capacity
            if over < excess and (before is None or lag.span_bytes < before.span_bytes):
                options.append((max(0, over), lag.choice.estimate.cycles, width, changed))
        if not options:
            return None
        nearest = min(options, key=lambda option: option[:3])
        close = [o for o in options if o[0] == nearest[0] and o[1] <= nearest[1] * _NEARLY_AS_FAST]
        return min(close, key=lambda option: (option[2], option[1]))[3]

    def _spill(self, maps: _Maps, step: int) -> _Maps:
        """Moves the largest resident map that lives at `step` to DRAM; lags are found anew."""
        where = maps.where
        here = [n for n, (first, last) in self.spans.items() if where[n] is Memory.SRAM and first <= step <= last]
        if not here or not self.spec.spill:
            raise UnsupportedError(
                "the smallest tile does not fit into SRAM "
                + ("even with every map in DRAM" if self.spec.spill else "beside the maps, which cannot leave it"),
                where=f"node {self.groups[step].label!r}",
                hint="it can run on the CPU instead",
            )
        largest = max(here, key=lambda name: (held_map_bytes(self.graph, name), name))
        host = largest in (*self.graph.inputs, *self.graph.outputs)
        moved = (name for name in where if self.graph.root(name) == largest)
        shared = Memory.TOKENS if self.graph.tensors[largest].channels_last else Memory.HOST
        return _Maps({**where, **dict.fromkeys(moved, shared if host else Memory.DRAM)})

    def _live(self, maps: _Maps) -> list[int]:
        return live_bytes(*self._layout(maps), steps=len(self.groups))

    def _layout(self, maps: _Maps) -> tuple[list[Block], Joined]:
        """One block for each resident map; those that overwrite each other are joined."""
        blocks: dict[str, Block] = {}
        joined: dict[str, tuple[str, int]] = {}
        for step, group in enumerate(self.groups):
            for name in map(self.graph.root, (*group.reads, group.output)):
                if maps.where[name] is not Memory.SRAM or name in blocks:
                    continue
                first, last = self.spans[name]
                size = self.graph.tensors[name].size_bytes
                blocks[name] = Block(name, size, first, min(last, len(self.groups) - 1))
                if name == group.output and (under := self._underneath(maps, step)):
                    root, offset = joined.get(under[0], (under[0], 0))
                    joined[name] = root, offset + under[1]
        return list(blocks.values()), joined

    def _underneath(self, maps: _Maps, step: int) -> tuple[str, int] | None:
        """The map that the output of `step` overwrites, and how far from its address the output begins."""
        group = self.groups[step]
        if lag := maps.lags.get(step):
            return group.input, lag.shift
        operand = in_place_operand(group, step, self.spans, maps.where)
        return (operand, 0) if operand else None

    def _try(self, maps: _Maps, room: float) -> Plan | None:
        """A plan whose workspaces use at most `room` of what is free at their step, or None if it cannot be placed."""
        live = self._live(maps)
        subgraphs = [group.subgraph(maps.where) for group in self.groups]
        choosers = [Chooser(self.spec)]
        if self.spec.weight_decoder:
            choosers.append(Chooser(self.spec, shortened=True))
        found: list[tuple[float, Plan]] = []
        for chooser in choosers:
            chosen = self._chosen(maps, subgraphs, chooser, [(self.capacity - held) * room for held in live])
            if chosen and (placed := self._overlapped(maps, subgraphs, chosen, live)):
                found.append(placed)
        return min(found, key=lambda priced: priced[0])[1] if found else None

    def _chosen(
        self, maps: _Maps, subgraphs: Sequence[Subgraph], chooser: Chooser, limits: Sequence[float]
    ) -> list[Candidate] | None:
        """A tiling for every step, whose workspace keeps its limit, or None where one step has none."""
        chosen: list[Candidate] = []
        for step, (subgraph, limit) in enumerate(zip(subgraphs, limits, strict=True)):
            choice = self._choose(chooser, subgraph, maps.lags.get(step), limit)
            if choice is None:
                return None
            chosen.append(choice)
        return chosen

    def _choose(self, chooser: Chooser, subgraph: Subgraph, lag: Lag | None, limit: float) -> Candidate | None:
        if lag is None:
            return chooser.choose(subgraph, limit)
        return chooser.accept(subgraph, lag.choice) if lag.choice.workspace_bytes <= limit else None

    def _overlapped(
        self, maps: _Maps, subgraphs: Sequence[Subgraph], chosen: Sequence[Candidate], live: Sequence[int]
    ) -> tuple[float, Plan] | None:
        """The plan with the overlap that is worth its memory, of those that can be placed, and its price."""
        needed = [held + choice.workspace_bytes for held, choice in zip(live, chosen, strict=True)]
        market = Market(Timetable(subgraphs, chosen, self.spec), needed, self.capacity, given=self.wide)
        best: Plan | None = None
        least = inf
        for offer in market.offers():
            if offer.price >= least:
                break
            placed = self._placed(maps, subgraphs, chosen, offer)
            if placed and (price := market.price(offer.cycles, placed.sram_bytes)) < least:
                best, least = placed, price
        return (least, best) if best else None

    def _placed(
        self, maps: _Maps, subgraphs: Sequence[Subgraph], chosen: Sequence[Candidate], offer: Priced
    ) -> Plan | None:
        """The plan with this overlap, placed within its limit if that is found soon, else wherever it fits."""
        found = offer.overlaps
        deep = [with_slots(c, s, self.spec, o.slots) for c, s, o in zip(chosen, subgraphs, found, strict=True)]
        blocks, joined = self._layout(maps)
        every = (*blocks, *_buffer_blocks(deep, found))
        addresses, peak = allocate(every, joined, goal=offer.limit_bytes)
        if peak > self.capacity:
            return None
        return Plan(_steps(self.groups, subgraphs, deep, found), maps.where, addresses, peak, every)


def _hidden_cycles(choice: Candidate) -> float:
    """Of a step whose first loads hide under the step before."""
    return max(choice.estimate.compute, choice.estimate.dma)


def _buffer_blocks(chosen: Sequence[Candidate], found: Sequence[Overlap]) -> list[Block]:
    return [
        Block(
            buffer_name(step, buffer),
            buffer.size_bytes,
            step - (overlap.ahead if buffer.role is Role.WEIGHTS else 0),
            step + (overlap.drain and buffer.role is Role.OUTGOING),
        )
        for step, (choice, overlap) in enumerate(zip(chosen, found, strict=True))
        for buffer in choice.buffers
    ]


def _steps(
    groups: Sequence[Group], subgraphs: Sequence[Subgraph], chosen: Sequence[Candidate], found: Sequence[Overlap]
) -> tuple[PlannedStep, ...]:
    parts = zip(groups, subgraphs, chosen, found, strict=True)
    return tuple(PlannedStep(g, subgraph, choice, o.ahead, o.drain) for g, subgraph, choice, o in parts)
