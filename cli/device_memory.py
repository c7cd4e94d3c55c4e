"""The memory that a network needs on a device with an ordinary runtime, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..common.units import format_bytes
from .tables import pairs

if TYPE_CHECKING:
    from ..estimator.opgraph.memory import DeviceMemory


def memory_table(memory: DeviceMemory) -> Any:
    rows: list[tuple[str, object]] = [
        ("activations", f"{format_bytes(memory.arena_bytes)} in one arena"),
        ("weights", format_bytes(memory.weight_bytes)),
        ("traffic", f"{format_bytes(memory.traffic_bytes)} where nothing stays in a cache"),
    ]
    return pairs(rows)
