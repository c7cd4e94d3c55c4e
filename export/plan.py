"""The memory plan: which maps stay in SRAM, which tiling each subgraph gets, and every address.

1. Every map between subgraphs starts in SRAM. While some step cannot hold its maps and its smallest
   workspace, the largest map that lives there moves to DRAM.
2. Each subgraph gets the fastest tiling that its step has room for.
3. Weights load ahead and outgoing tiles drain late where that still fits (`overlap.py`), and blocks are placed.

All of it follows from shapes and the engine, never from weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..common.errors import UnsupportedError
from ..kernels.kernel import Role
from ..kernels.search import Candidate
from ..kernels.subgraph import Memory, Subgraph
from ..targets.spec import EngineSpec
from .allocate import Block, allocate
from .graph import Graph
from .overlap import Overlap, overlaps, with_slots
from .partition import Group, in_place_operand, lifetimes, partition, resident_bytes, tilings
from .planned import Plan, PlannedStep, buffer_name
from .tiling import choose

_OVERLAP_SHARES = (1.0, 0.95, 0.9, 0.8, 0.65, 0.5, 0.0)  # of SRAM that overlap may fill, until placement succeeds
_SHRINK = 0.85  # how much less workspace each further attempt may use when placement is fragmented


def plan(graph: Graph, spec: EngineSpec, *, sram_limit_bytes: int | None = None) -> Plan:
    """Plans the whole graph into `sram_limit_bytes` (default: all SRAM of the engine).

    Raises:
        UnsupportedError: naming the node whose smallest tile does not fit.
    """
    capacity = min(spec.sram_bytes, sram_limit_bytes or spec.sram_bytes)
    groups = partition(graph, spec, sram_bytes=capacity)
    where = _place(graph, groups, spec, capacity)
    room = 1.0
    while True:
        found = _try(graph, groups, where, spec, capacity, room)
        if found is not None:
            return found
        room *= _SHRINK
        if room < 0.2:  # fragmentation that smaller tiles do not cure: give up one more resident map
            where, room = _spill(graph, groups, where, _fullest(graph, groups, where)), 1.0


def _place(graph: Graph, groups: Sequence[Group], spec: EngineSpec, capacity: int) -> dict[str, Memory]:
    passed = dict.fromkeys(name for group in groups for name in (*group.reads, group.output))
    where = dict.fromkeys(passed, Memory.SRAM)
    where |= dict.fromkeys((*graph.inputs, *graph.outputs), Memory.HOST)
    while True:
        live = resident_bytes(graph, list(groups), where)
        excess = [
            live[step] + min(c.workspace_bytes for c in tilings(group, where, spec)) - capacity
            for step, group in enumerate(groups)
        ]
        worst = max(range(len(groups)), key=lambda step: excess[step])
        if excess[worst] <= 0:
            return where
        where = _spill(graph, groups, where, worst)


def _spill(graph: Graph, groups: Sequence[Group], where: dict[str, Memory], step: int) -> dict[str, Memory]:
    """Moves the largest resident map that lives at `step` to DRAM."""
    spans = lifetimes(graph, list(groups))
    here = [n for n, (first, last) in spans.items() if where[n] is Memory.SRAM and first <= step <= last]
    if not here:
        raise UnsupportedError(
            "the smallest tile does not fit into SRAM even with every map in DRAM",
            where=f"node {groups[step].label!r}",
            hint="it can run on the CPU instead",
        )
    largest = max(here, key=lambda name: (graph.tensors[name].size_bytes, name))
    return {**where, largest: Memory.DRAM}


def _fullest(graph: Graph, groups: Sequence[Group], where: dict[str, Memory]) -> int:
    live = resident_bytes(graph, list(groups), where)
    return max(range(len(live)), key=lambda step: live[step])


def _try(
    graph: Graph, groups: Sequence[Group], where: dict[str, Memory], spec: EngineSpec, capacity: int, room: float
) -> Plan | None:
    """A plan whose workspaces use at most `room` of what is free at their step, or None if it cannot be placed."""
    live = resident_bytes(graph, list(groups), where)
    chosen: list[Candidate] = []
    for step, group in enumerate(groups):
        fitting = [c for c in tilings(group, where, spec) if c.workspace_bytes <= (capacity - live[step]) * room]
        if not fitting:
            return None
        chosen.append(choose(group.subgraph(where), spec, tuple(fitting)))
    used = [live[step] + choice.workspace_bytes for step, choice in enumerate(chosen)]
    subgraphs = [group.subgraph(where) for group in groups]
    blocks, aliases = _tensor_blocks(graph, groups, where)
    for share in _OVERLAP_SHARES:
        free = [max(0, int(capacity * share) - bytes_) for bytes_ in used]
        found = overlaps(subgraphs, chosen, spec, free) if share else [Overlap()] * len(groups)
        deep = [with_slots(c, s, spec, o.slots) for c, s, o in zip(chosen, subgraphs, found, strict=True)]
        every = blocks + _buffer_blocks(deep, found)
        addresses, peak = allocate(every) if every else ({}, 0)
        if peak <= capacity:
            addresses |= {name: addresses[root] for name, root in aliases.items()}
            return Plan(_steps(groups, subgraphs, deep, found), where, addresses, peak)
    return None


def _tensor_blocks(
    graph: Graph, groups: Sequence[Group], where: dict[str, Memory]
) -> tuple[list[Block], dict[str, str]]:
    """One block for each resident map, or for each run of maps that replace each other in place."""
    spans = lifetimes(graph, list(groups))
    root: dict[str, str] = {}
    ends: dict[str, int] = {}
    for step, group in enumerate(groups):
        for name in (*group.reads, group.output):
            if where[name] is Memory.SRAM and name not in root:
                operand = in_place_operand(group, step, spans, where) if name == group.output else None
                root[name] = root[operand] if operand else name
                ends[root[name]] = max(ends.get(root[name], 0), spans[name][1])
    blocks = [Block(n, graph.tensors[n].size_bytes, spans[n][0], ends[n]) for n, r in root.items() if n == r]
    return blocks, {name: r for name, r in root.items() if name != r}


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
