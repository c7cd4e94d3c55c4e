"""What a program consists of, for inspection: instructions by unit and the layout of its DRAM."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .isa import Unit
from .program import Program


@dataclass(frozen=True, slots=True)
class DramRange:
    """Bytes [start, start + size_bytes) of the program's DRAM."""

    name: str
    kind: str
    start: int
    size_bytes: int


def instruction_counts(program: Program) -> dict[Unit, dict[str, int]]:
    """How often each instruction occurs in the queue of each unit, as written (loops count once)."""
    counts = {unit: Counter(item.opcode.name for item in program.queues[unit]) for unit in Unit}
    return {unit: dict(sorted(counter.items())) for unit, counter in counts.items()}


def dram_map(program: Program) -> list[DramRange]:
    """The DRAM from address 0 on without gaps: constants, ports, and maps that do not fit into SRAM."""
    known = [DramRange("constants", "constants", 0, len(program.constants))] if program.constants else []
    for kind, ports in (("input", program.inputs), ("output", program.outputs)):
        outside = [port for port in ports if port.memory == "dram"]
        known += [DramRange(port.name, kind, port.address, port.size_bytes) for port in outside]
    found: list[DramRange] = []
    end = 0
    for item in sorted(known, key=lambda item: (item.start, item.name)):
        found += _gap(end, item.start)
        found.append(item)
        end = max(end, item.start + item.size_bytes)
    return found + _gap(end, program.dram_bytes)


def _gap(start: int, end: int) -> list[DramRange]:
    return [DramRange("", "spilled or padding", start, end - start)] if end > start else []
