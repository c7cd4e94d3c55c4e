"""What screening prepares of a block once: for each of its steps, the tilings that fit beside the block's maps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from ..export.graph import Graph
from ..export.partition import partition, resident_bytes
from ..export.resident_options import BareOption, ResidentTilings, is_resident
from ..export.tiling import options, workspaces
from ..kernels.kernel import held_bytes
from ..kernels.subgraph import Memory, Subgraph
from ..targets.spec import EngineSpec
from .pieces import Chain, Piece, Step

_STEPS = 65_536  # that are remembered, each about a kilobyte

Way: TypeAlias = tuple[float, float, float | None]
"""A tiling of a step: cycles alone, at least however early its weights load, and of its loads (see `Option`)."""


class Prepared(NamedTuple):
    """A block. `steps` hold the tilings of each step, none where none fits."""

    steps: tuple[tuple[Way, ...], ...]
    sram_bytes: int
    weight_bytes: int
    macs: int


class _Outlook(NamedTuple):
    """Workspaces of a step's tilings in bytes, ascending, and what is worth choosing where all of them fit."""

    workspaces: tuple[int, ...]
    best: tuple[BareOption, ...]


class Preparation:
    """Prepares blocks for one engine. Steps recur far more often than blocks, so their tilings are remembered."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._inside = spec.io_memory == "sram"
        self._outlook = lru_cache(maxsize=_STEPS)(self._find_outlook)
        self._narrow = lru_cache(maxsize=_STEPS)(self._find_narrow)

    def of(self, piece: Piece) -> Prepared:
        """The block prepared.

        Raises:
            UnsupportedError: naming the node of which not even the smallest tile fits into an empty SRAM.
        """
        found = self._chain(piece) if isinstance(piece, Chain) else None
        return found or self._graph(piece.build(), piece)

    def _chain(self, chain: Chain) -> Prepared | None:
        """A chain whose steps all have room beside their maps; None for another one, whose steps may have to join.

        The same as `_graph` finds (a test compares), without names and searches."""
        outer = chain.first and not self._inside
        if chain.carried and outer:
            return None
        carried, final = chain.steps[0].input_bytes if chain.carried else 0, len(chain.steps) - 1
        found: list[tuple[Way, ...]] = []
        most = 0
        for number, step in enumerate(chain.steps):
            starts, ends = outer and number == 0, chain.last and number == final and not self._inside
            replaces = carried > 0 and number == final > 0  # the sum is written over what was carried
            held = 0 if starts else step.input_bytes
            held += 0 if ends or replaces else step.output_bytes
            held += carried if number else 0
            best = self._best(step, starts, ends, self._spec.sram_bytes - held)
            if not best:
                return None
            most = max(most, held + min(option.workspace_bytes for option in best))
            found.append(_ways(best))
        weight_bytes = sum(step.constant_bytes for step in chain.steps)
        return Prepared(tuple(found), most, weight_bytes, sum(step.macs for step in chain.steps))

    def _best(self, step: Step, starts: bool, ends: bool, room_bytes: int) -> tuple[BareOption, ...]:
        """The options within `room_bytes`, none where none fits."""
        outlook = self._outlook(step, starts, ends)
        if not outlook.workspaces or room_bytes >= outlook.workspaces[-1]:
            return outlook.best
        rank = bisect_right(outlook.workspaces, room_bytes)
        return self._narrow(step, starts, ends, outlook.workspaces[rank - 1]) if rank else ()

    def _find_outlook(self, step: Step, starts: bool, ends: bool) -> _Outlook:
        subgraph = _subgraph(step, starts, ends)
        if is_resident(subgraph):
            tilings = ResidentTilings(subgraph, self._spec)
            return _Outlook(tilings.workspaces, _useful(tilings.options(self._spec.sram_bytes)))
        limits = workspaces(subgraph, self._spec)
        return _Outlook(limits, _useful(_bare(subgraph, self._spec, limits[-1])))

    def _find_narrow(self, step: Step, starts: bool, ends: bool, limit_bytes: int) -> tuple[BareOption, ...]:
        subgraph = _subgraph(step, starts, ends)
        if is_resident(subgraph):
            return _useful(ResidentTilings(subgraph, self._spec).options(limit_bytes))
        return _useful(_bare(subgraph, self._spec, limit_bytes))

    def _graph(self, graph: Graph, piece: Piece) -> Prepared:
        """Any block, partitioned as the compiler does."""
        spec = self._spec
        where = dict.fromkeys(graph.tensors, Memory.SRAM)
        if not self._inside:
            where |= dict.fromkeys(graph.inputs, Memory.HOST) if piece.first else {}
            where |= dict.fromkeys(graph.outputs, Memory.HOST) if piece.last else {}
        groups = partition(graph, spec, where=where)
        live = resident_bytes(graph, groups, where)
        subgraphs = [group.subgraph(where) for group in groups]
        steps = [_useful(_bare(s, spec, spec.sram_bytes - held)) for s, held in zip(subgraphs, live, strict=True)]
        least = [min((option.workspace_bytes for option in step), default=0) for step in steps]
        return Prepared(
            tuple(map(_ways, steps)),
            max(held + workspace for held, workspace in zip(live, least, strict=True)),
            sum(held_bytes(op) for subgraph in subgraphs for op in subgraph.ops),
            graph.macs,
        )


def _subgraph(step: Step, starts: bool, ends: bool) -> Subgraph:
    """The step with all maps in SRAM, save what it reads or writes at the ends of a network."""
    second = Memory.SRAM if step.residual else None
    return Subgraph((step.op,), Memory.HOST if starts else Memory.SRAM, Memory.HOST if ends else Memory.SRAM, second)


def _bare(subgraph: Subgraph, spec: EngineSpec, limit_bytes: float) -> Iterable[BareOption]:
    for option in options(subgraph, spec, limit_bytes):
        yield BareOption(option.alone, option.least, option.loading, option.choice.workspace_bytes)


def _useful(found: Iterable[BareOption]) -> tuple[BareOption, ...]:
    """Without those that another one beats however early weights load."""
    kept: list[BareOption] = []
    for option in sorted(found, key=lambda o: (o.alone, o.least, o.workspace_bytes)):
        if not kept or option.least < kept[-1].least:
            kept.append(option)
    return tuple(kept)


def _ways(found: Iterable[BareOption]) -> tuple[Way, ...]:
    return tuple((option.alone, option.least, option.loading) for option in found)
