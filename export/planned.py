"""The value that planning produces and lowering consumes."""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.kernel import Buffer, held_bytes
from ..kernels.search import Candidate
from ..kernels.subgraph import Memory, Subgraph
from .allocate import Block
from .partition import Group


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One subgraph with its tiling. Its weights may load `ahead` steps early; `drain`: stores end one step late."""

    group: Group
    subgraph: Subgraph
    choice: Candidate
    ahead: int
    drain: bool

    @property
    def prefetch(self) -> bool:
        return self.ahead > 0

    @property
    def stores(self) -> bool:
        return self.subgraph.output is not Memory.SRAM

    @property
    def weight_bytes(self) -> int:
        return sum(held_bytes(op) for op in self.subgraph.ops)


@dataclass(frozen=True, slots=True)
class Plan:
    """`addresses` holds SRAM addresses: of resident tensors by name, of buffers by `buffer_name`. `blocks` are all of
    these with their sizes and the steps in which they live; those that overwrite each other in place share bytes."""

    steps: tuple[PlannedStep, ...]
    where: dict[str, Memory]
    addresses: dict[str, int]
    sram_bytes: int
    blocks: tuple[Block, ...]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weight records, as they lie in DRAM."""
        return sum(step.weight_bytes for step in self.steps)

    def spilled(self) -> list[str]:
        return [name for name, memory in self.where.items() if memory is Memory.DRAM]


def buffer_name(step: int, buffer: Buffer) -> str:
    return f"{step}/{buffer.name}"
