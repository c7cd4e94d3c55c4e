"""Byte memories of a batch of independent runs, and strided boxes in them.

What is the same in every run (constants, weights, memory nobody wrote yet) is stored once; only bytes that
differ between runs are stored per run. An array that a memory returns or takes has a leading axis of
length 1 when it holds for all runs, and of `runs` otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ..common.errors import ProgramFault
from .budget import UNLIMITED, RunBudget


@dataclass(frozen=True, slots=True)
class Box:
    """The bytes at address + Σ i_d × strides_d for 0 <= i_d < counts_d. Every count is at least 1."""

    address: int
    counts: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def low(self) -> int:
        return self.address + sum((n - 1) * s for n, s in zip(self.counts, self.strides, strict=True) if s < 0)

    @property
    def high(self) -> int:
        """One beyond the last byte."""
        return self.address + 1 + sum((n - 1) * s for n, s in zip(self.counts, self.strides, strict=True) if s > 0)

    def overlaps(self, other: Box) -> bool:
        """Whether a byte belongs to both. Takes memory and time by the bytes in question where address ranges meet."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        if low >= high:
            return False
        base, end = min(self.low, other.low), max(self.high, other.high)
        taken = np.zeros(end - base, np.bool_)
        self._of(taken, base)[...] = True
        return bool(other._of(taken, base).any())

    def _of(self, flags: NDArray[np.bool_], base: int) -> NDArray[np.bool_]:
        """The box in an array of one flag for each byte from address `base` on."""
        return as_strided(flags[self.address - base :], self.counts, self.strides)

    def has_distinct_bytes(self) -> bool:
        """Whether no byte is addressed twice, decided by nesting the dimensions by stride."""
        extent = 1
        for stride, count in sorted((abs(s), n) for n, s in zip(self.counts, self.strides, strict=True) if n > 1):
            if stride < extent:
                return False
            extent += (count - 1) * stride
        return True


class Memory:
    """`size` bytes for each of `runs` runs. `name` appears in faults, `budget` limits what an instruction does here."""

    def __init__(self, name: str, runs: int, size: int, initial: bytes = b"", *, budget: RunBudget = UNLIMITED) -> None:
        self.name, self.runs, self.size, self.budget = name, runs, size, budget
        self._shared = np.zeros(size, np.int8)
        self._shared[: len(initial)] = np.frombuffer(initial, np.int8)
        self._private = np.zeros(runs * size if runs > 1 else 0, np.int8)
        self._is_private = np.zeros(size, np.bool_)

    def fill(self, start: int, data: NDArray[np.int8]) -> None:
        """Sets the bytes from `start` on for all runs: the state before the program starts."""
        self._shared[start : start + len(data)] = data

    def check(self, box: Box) -> None:
        """Raises `ProgramFault` unless every byte of the box exists."""
        if box.low < 0 or box.high > self.size:
            raise ProgramFault(f"{self.name} bytes {box.low}..{box.high - 1} lie outside of 0..{self.size - 1}")

    def read(self, box: Box) -> NDArray[np.int8]:
        """A view of the box, (1 or runs, *counts), valid until the next write."""
        self.check(box)
        private = self._flags(box)
        if not private.any():
            return self._shared_view(box)
        view = self._private_view(box)
        if not private.all():
            view[:, ~private] = self._shared_view(box)[:, ~private]
            private[...] = True
        return view

    def write(self, box: Box, values: NDArray[np.int8]) -> None:
        """Stores (1 or runs, *counts) values; a box that holds one byte twice is a `ProgramFault`."""
        self.check(box)
        if not box.has_distinct_bytes():
            raise ProgramFault(
                f"two elements share one byte of {self.name}: counts {box.counts}, strides {box.strides}"
            )
        everywhere = len(values) == 1
        target = self._shared_view(box) if everywhere else self._private_view(box)
        target[...] = values
        self._flags(box)[...] = not everywhere

    def _flags(self, box: Box) -> NDArray[np.bool_]:
        return np.ndarray(box.counts, np.bool_, self._is_private, box.address, box.strides)

    def _shared_view(self, box: Box) -> NDArray[np.int8]:
        return np.ndarray((1, *box.counts), np.int8, self._shared, box.address, (0, *box.strides))

    def _private_view(self, box: Box) -> NDArray[np.int8]:
        return np.ndarray((self.runs, *box.counts), np.int8, self._private, box.address, (self.size, *box.strides))
