"""What runners on this host share: the processors to use, and memory to sweep through the caches."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from ...common.errors import InputError

_BUFFER: list[NDArray[np.float32]] = [np.ones(0, np.float32)]


def sweep_buffer(size_bytes: int) -> NDArray[np.float32]:
    """`size_bytes` of memory that all sessions share, and that no model uses."""
    count = size_bytes // 4
    if _BUFFER[0].size < count:
        _BUFFER[0] = np.ones(count, np.float32)
    return _BUFFER[0][:count]


def own_processors(count: int) -> list[int]:
    """The last `count` processors of those that this process may use; more than there are raises `InputError`."""
    available = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(available):
        raise InputError(f"{count} threads asked for, {len(available)} processors are available")
    return available[-count:]  # the first processor serves most interrupts
