"""The roofline of a network, layer by layer: arithmetic intensity, attained rate, and the roof above it.

Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009, with MACs for operations and cycles for time. Traffic
is what the program really moves through DRAM and flash, so a layer whose maps stay in SRAM has little or none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..targets.spec import EngineSpec
from .profiling import Row


@dataclass(frozen=True, slots=True)
class RoofPoint:
    """One subgraph. `intensity` is in MACs per byte of `traffic_bytes`, None without traffic; rates are MACs per cycle.

    `roof` is the rate that array and memory allow at this intensity, `lost_cycles` what the subgraph takes beyond it.
    Subgraphs without MACs have an intensity and rates of 0.
    """

    label: str
    kind: str
    bound: str
    cycles: float
    share: float
    macs: int
    traffic_bytes: int
    intensity: float | None
    rate: float
    roof: float
    lost_cycles: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bandwidth(spec: EngineSpec) -> float:
    """Bytes per cycle from outside of SRAM: DRAM, and flash where the engine has a channel for constants."""
    return spec.dram_bytes_per_cycle + spec.flash_bytes_per_cycle


def roof(spec: EngineSpec, intensity: float | None) -> float:
    """MACs per cycle that the engine can reach at so many MACs per byte; None means no traffic at all."""
    peak = spec.parallelism * spec.int8_rate
    return peak if intensity is None else min(peak, intensity * bandwidth(spec))


def roof_points(rows: Iterable[Row], spec: EngineSpec) -> tuple[RoofPoint, ...]:
    """The subgraphs in the order of execution, with their own cycles: those that others hide are among them."""
    return tuple(_point(row, spec) for row in rows)


def _point(row: Row, spec: EngineSpec) -> RoofPoint:
    report, cycles = row.report, row.report.cycles
    traffic = report.dram_read_bytes + report.dram_write_bytes
    intensity = report.macs / traffic if traffic else None
    limit = roof(spec, intensity)
    least = max(report.macs / (spec.parallelism * spec.int8_rate), traffic / bandwidth(spec))
    return RoofPoint(
        label=report.label,
        kind=report.kind,
        bound=report.bound,
        cycles=cycles,
        share=row.share,
        macs=report.macs,
        traffic_bytes=traffic,
        intensity=intensity,
        rate=report.macs / cycles if cycles else 0.0,
        roof=limit if report.macs else 0.0,
        lost_cycles=max(0.0, cycles - least),
    )


def worst(points: Iterable[RoofPoint], count: int) -> tuple[RoofPoint, ...]:
    """The subgraphs that lose most cycles against their roof."""
    return tuple(sorted(points, key=lambda point: (-point.lost_cycles, point.label))[:count])
