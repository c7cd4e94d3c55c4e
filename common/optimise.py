"""What a compiled network is made for."""

from __future__ import annotations

from enum import StrEnum


class Optimise(StrEnum):
    """Few cycles, or the least SRAM that costs little time."""

    LATENCY = "latency"
    SRAM = "sram"
