"""Where all information of a network passes: the maps that end its blocks, found from what was executed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(slots=True)
class _Node:
    tensor: Tensor
    sources: int
    uses: int = 0
    last_use: int = -1
    feeds_weights: bool = False

    @property
    def is_map(self) -> bool:
        return self.tensor.dim() == 4 and self.tensor.shape[2:].numel() > 1


class Dataflow:
    """Records calls in the order in which they ran. Tensors are kept, so that an id stays taken."""

    def __init__(self, inputs: Tensor) -> None:
        self._nodes = [_Node(inputs, 0)]
        self._index = {id(inputs): 0}

    def record(self, result: Tensor, arguments: Iterable[Any], *, weighted: bool) -> None:
        """`result` was computed from `arguments`; what does not depend on the network's input is no flow."""
        sources = {self._index[id(t)] for t in _tensors(arguments) if id(t) in self._index}
        if not sources:
            return
        index = len(self._nodes)
        for source in sources:
            node = self._nodes[source]
            node.uses, node.last_use, node.feeds_weights = node.uses + 1, index, weighted
        self._nodes.append(_Node(result, len(sources)))
        self._index[id(result)] = index

    def waypoints(self) -> tuple[Tensor, ...]:
        """Maps (N, C, H, W) that all later values are computed from alone, one at the end of each block.

        A block ends where branches meet, where a map is read more than once, before the next convolution of a
        plain chain, and before maps become vectors. The last execution of an in-place function counts.
        """
        found, reach = list[Tensor](), 0
        for index, node in enumerate(self._nodes):
            if index and reach <= index and node.is_map and self._ends_block(node):
                found.append(node.tensor)
            reach = max(reach, node.last_use)
        return tuple(found)

    def _ends_block(self, node: _Node) -> bool:
        if node.uses == 0 or node.sources > 1 or node.uses > 1 or node.feeds_weights:
            return True
        return not self._nodes[node.last_use].is_map


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
