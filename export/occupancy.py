"""What lies in SRAM when: the memory plan laid over the time of the program.

A block of the plan exists from the begin of one step to the end of another. Steps complete in order, so step k
lasts from the end of step k − 1 to its own: prefetched weights already lie there in the steps before theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from ..common.units import cycles_to_us
from .compiler import Compiled
from .planned import buffer_name

MAP = "maps"  # tensors that stay in SRAM between subgraphs; buffers are named after their role


@dataclass(frozen=True, slots=True)
class Span:
    """One tensor or buffer of subgraph `label`: SRAM bytes [address, address + size_bytes) in that time."""

    name: str
    kind: str
    label: str
    address: int
    size_bytes: int
    start_us: float
    end_us: float

    def overlaps(self, other: Span) -> bool:
        """Whether both hold one byte at one time, as an output does that overwrites its input in place."""
        in_time = self.start_us < other.end_us and other.start_us < self.end_us
        return (
            in_time
            and self.address < other.address + other.size_bytes
            and other.address < self.address + self.size_bytes
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Level:
    """From `start_us` until the next level: bytes of SRAM that hold something, by kind; shared bytes count once."""

    start_us: float
    bytes_by_kind: dict[str, int]

    @property
    def occupied_bytes(self) -> int:
        return sum(self.bytes_by_kind.values())


def spans(compiled: Compiled, start_us: float = 0.0) -> tuple[Span, ...]:
    """Every block of the plan in the order of time; `start_us` is when the region begins."""
    plan = compiled.plan
    times = [start_us + time for time in step_times_us(compiled)]
    steps = range(len(plan.steps))
    roles = {buffer_name(n, b): (b.role.value, n) for n in steps for b in plan.steps[n].choice.buffers}
    found = []
    for block in plan.blocks:
        kind, step = roles.get(block.name, (MAP, max(0, block.first)))
        first, last = max(0, block.first), min(len(steps) - 1, block.last)
        label = plan.steps[step].group.label
        place = (plan.addresses[block.name], block.size_bytes)
        found.append(Span(block.name, kind, label, *place, times[first], times[last + 1]))
    return tuple(sorted(found, key=lambda span: (span.start_us, span.address, span.name)))


def step_times_us(compiled: Compiled) -> list[float]:
    """When each step begins, and when the last one ends, from the start of the region."""
    cycles = {item.label: item.cycles for item in compiled.timing.labels}
    ends = accumulate((cycles[step.group.label] for step in compiled.plan.steps), initial=0)
    clock = compiled.program.spec.clock_mhz
    return [cycles_to_us(end, clock) for end in ends]


def levels(found: Sequence[Span]) -> tuple[Level, ...]:
    """How full SRAM is over time: a level for every time at which something comes or goes, the last one empty."""
    times = sorted({time for span in found for time in (span.start_us, span.end_us)})
    return tuple(Level(time, _by_kind([s for s in found if s.start_us <= time < s.end_us])) for time in times)


def _by_kind(live: Sequence[Span]) -> dict[str, int]:
    """Bytes by kind; what overlaps in place is counted for the kind that is named first."""
    done: list[tuple[int, int]] = []
    sizes: dict[str, int] = {}
    for kind in sorted({span.kind for span in live}):
        before = covered_bytes(done)
        done += [(span.address, span.address + span.size_bytes) for span in live if span.kind == kind]
        sizes[kind] = covered_bytes(done) - before
    return sizes


def covered_bytes(ranges: Iterable[tuple[int, int]]) -> int:
    """Bytes in the union of [start, end) ranges."""
    total = reached = 0
    for start, end in sorted(ranges):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
