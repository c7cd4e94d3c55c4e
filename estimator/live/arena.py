"""Memory of a network as its runtime executes it: joined operators and blocked layouts included.

ONNX Runtime places results in one arena by their lifetimes, lets element-wise operators and the sum of a joined
convolution write over an operand that nobody reads any more, and gives views the memory of what they view. Here all
results are placed at once, greedily by size (`opgraph.memory`); workspaces inside of operators are not known.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..opgraph.memory import ALIGNMENT_BYTES, Buffer, DeviceMemory, arena_size, live_size
from .executed import ExecutedGraph, ExecutedNode
from .work import is_view

_IN_PLACE = (
    "Add", "Sub", "Mul", "Div", "Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish", "Erf",
    "Exp", "Sqrt", "Softmax", "LayerNormalization", "BatchNormalization",
)  # fmt: skip


def live_memory(graph: ExecutedGraph) -> DeviceMemory:
    """Arena, weights and traffic of the executed graph; inputs belong to the caller and count as live all along."""
    homes = _Homes(graph)
    for step, node in enumerate(graph.nodes):
        homes.place(node, step)
    buffers = homes.buffers()
    moving = [node.operator for node in graph.nodes if not is_view(node.operator)]
    weights = {name: value.size_bytes for name, value in graph.values.items() if value.constant}
    used = {name for node in graph.nodes for name in node.inputs if name in weights}
    return DeviceMemory(
        arena_bytes=arena_size(buffers),
        live_bytes=live_size(buffers, len(graph.nodes)),
        weight_bytes=sum(weights[name] for name in used),
        traffic_bytes=sum(o.input_bytes + o.output_bytes + o.weight_bytes for o in moving),
    )


class _Homes:
    """The buffer of each tensor, and until when it is taken."""

    def __init__(self, graph: ExecutedGraph) -> None:
        self._values, end = graph.values, len(graph.nodes)
        self._last = {name: max(steps) for name, steps in graph.users.items()}
        self._last.update(dict.fromkeys((*graph.outputs, *graph.inputs), end))
        self._home = {name: name for name in graph.inputs}
        self._outside = frozenset(graph.inputs)
        self._size = {name: _aligned(graph.values[name].size_bytes) for name in graph.inputs}
        self._first = dict.fromkeys(graph.inputs, 0)
        self._end = dict.fromkeys(graph.inputs, end)

    def place(self, node: ExecutedNode, step: int) -> None:
        for name in filter(None, node.outputs):
            size = _aligned(self._values[name].size_bytes)
            home = self._shared(node, step, size) or name
            self._home[name] = home
            if home == name:
                self._size[home], self._first[home] = size, step
            self._end[home] = max(self._end.get(home, 0), self._last.get(name, step))

    def buffers(self) -> list[Buffer]:
        return [Buffer(self._size[name], self._first[name], self._end[name]) for name in self._size]

    def _shared(self, node: ExecutedNode, step: int, size: int) -> str | None:
        """The buffer of what `node` views, or of an operand that it may write over."""
        if is_view(node.operator):
            return self._home.get(node.inputs[0])
        held = [self._home[name] for name in _overwritable(node) if name in self._home]
        return next((home for home in held if self._is_free(home, step, size)), None)

    def _is_free(self, home: str, step: int, size: int) -> bool:
        return self._end[home] == step and self._size[home] == size and home not in self._outside


def _overwritable(node: ExecutedNode) -> Iterable[str]:
    name = node.operator.kind.rsplit(".", 1)[-1]
    if name in _IN_PLACE:
        return node.inputs
    return node.inputs[3:4] if "Conv" in name else ()  # the other operand of a joined sum


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
