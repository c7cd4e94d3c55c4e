"""Memory that a graph needs on a device with an ordinary runtime: weights, arena of activations, traffic.

Runtimes of the ORT and TFLite kind place every result in one arena. A result lives from the operator that writes it
to the last one that reads it; views of a result (reshape) are the result; an element-wise operator may write over an
operand that nobody reads any more. Places are found greedily by size (Pisarchyk and Lee 2020, arXiv:2001.03288,
algorithm 3), as TFLite does, which is never below, and mostly at, what lives at the busiest moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from .graph import OperatorGraph, OperatorNode
from .operator import ACTIVATIONS, BYTES_PER_ELEMENT, Kind

ALIGNMENT_BYTES = 64
_ELEMENTWISE = (*ACTIVATIONS, Kind.ADD, Kind.MUL, Kind.SUB, Kind.DIV, Kind.BATCH_NORM, Kind.ZERO)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes of a program in execution.

    arena_bytes: the activations' arena, inputs and outputs of the graph included.
    live_bytes: what lives at the busiest operator: no arena can be smaller.
    weight_bytes: constants. traffic_bytes: everything read and written when nothing stays in a cache.
    """

    arena_bytes: int
    live_bytes: int
    weight_bytes: int
    traffic_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Activations and weights together."""
        return self.arena_bytes + self.weight_bytes


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are taken from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


def device_memory(
    graph: OperatorGraph, *, in_place: bool = True, alignment_bytes: int = ALIGNMENT_BYTES
) -> DeviceMemory:
    """The memory of `graph` in its order of execution; without `in_place`, results never overwrite operands."""
    buffers = _buffers(graph, in_place, alignment_bytes)
    live = live_size(buffers, len(graph.nodes))
    return DeviceMemory(arena_size(buffers), live, graph.weight_bytes, graph.traffic_bytes)


def _buffers(graph: OperatorGraph, in_place: bool, alignment: int) -> list[Buffer]:
    """One buffer for each result that is neither a constant nor at home in another result's buffer."""
    homes = _Homes(graph, in_place, alignment)
    for step, node in enumerate(graph.nodes):
        if node.operator.executed:
            homes.place(node, step)
    return [Buffer(homes.size[name], homes.first[name], homes.end[name]) for name in homes.size]


class _Homes:
    """Which buffer each value lives in, and from when to when that buffer is taken."""

    def __init__(self, graph: OperatorGraph, in_place: bool, alignment: int) -> None:
        self._sources, self._in_place, self._alignment = graph.sources, in_place, alignment
        self._last = _last_reads(graph)
        self._home: dict[str, str] = {name: name for name in graph.sources}
        self.size = {name: self._aligned(_source_bytes(graph, name)) for name in graph.sources}
        self.first = dict.fromkeys(graph.sources, 0)
        self.end = {name: self._last[name] for name in graph.sources}

    def place(self, node: OperatorNode, step: int) -> None:
        home = self._shared(node, step) or node.name
        self._home[node.name] = home
        if home == node.name:
            self.size[home], self.first[home] = self._aligned(node.operator.output_bytes), step
        self.end[home] = max(self.end.get(home, 0), self._last[node.name])

    def _shared(self, node: OperatorNode, step: int) -> str | None:
        """The buffer of what `node` views, or of an operand that it reads for the last time and may overwrite."""
        held = [self._home[name] for name in node.inputs if name in self._home]
        if node.operator.kind == Kind.RESHAPE and held:
            return held[0]
        if not self._in_place or node.operator.kind not in _ELEMENTWISE:
            return None
        wanted = self._aligned(node.operator.output_bytes)
        return next((home for home in held if self._is_free(home, step, wanted)), None)

    def _is_free(self, home: str, step: int, size: int) -> bool:
        return self.end[home] == step and self.size[home] == size and home not in self._sources

    def _aligned(self, size: int) -> int:
        return -(-size // self._alignment) * self._alignment


def _last_reads(graph: OperatorGraph) -> dict[str, int]:
    """The step after which a value is free: its last reader, the end for outputs, its own step if nobody reads it."""
    last = {name: 0 for name in graph.sources}
    for step, node in enumerate(graph.nodes):
        last[node.name] = step
        last.update(dict.fromkeys(node.inputs, step))
    last.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    return last


def _source_bytes(graph: OperatorGraph, name: str) -> int:
    """A source has the element type of the operator that reads it first, floats where it is quantised."""
    readers = [graph.by_name[reader].operator for reader in graph.consumers[name]]
    dtype = readers[0].dtype if readers and readers[0].kind != Kind.QUANTISE else "float32"
    return prod(graph.sources[name]) * BYTES_PER_ELEMENT[dtype]


def arena_size(buffers: Sequence[Buffer]) -> int:
    """Bytes of one arena: the largest buffer first, each at the lowest place that is free for as long as it lives."""
    placed: list[tuple[int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size, b.first)):
        placed.append((_lowest_place(buffer, placed), buffer))
    return max((offset + buffer.size for offset, buffer in placed), default=0)


def _lowest_place(buffer: Buffer, placed: list[tuple[int, Buffer]]) -> int:
    offset = 0
    for taken, other in sorted(placed, key=lambda entry: entry[0]):
        if other.first <= buffer.last and buffer.first <= other.last:
            if taken - offset >= buffer.size:
                break
            offset = max(offset, taken + other.size)
    return offset


def live_size(buffers: Sequence[Buffer], steps: int) -> int:
    """Bytes that live at the busiest of so many steps."""
    changes = [0] * (steps + 2)
    for buffer in buffers:
        changes[buffer.first] += buffer.size
        changes[buffer.last + 1] -= buffer.size
    live = peak = 0
    for change in changes:
        live += change
        peak = max(peak, live)
    return peak
