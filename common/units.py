"""The one conversion module: cycles, microseconds and bytes, and how they are written and read."""

from __future__ import annotations

import re

from .errors import ConfigError

_TIME_US = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_ENERGY_UJ = {"j": 1e6, "mj": 1e3, "uj": 1.0, "nj": 1e-3}
_SIZE_BYTES = {
    "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3,
    "kib": 1024, "mib": 1024**2, "gib": 1024**3,
}  # fmt: skip
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")


def cycles_to_us(cycles: float, clock_mhz: float) -> float:
    """Microseconds that `cycles` take at `clock_mhz` (cycles per microsecond)."""
    return cycles / clock_mhz


def us_to_cycles(time_us: float, clock_mhz: float) -> float:
    """Cycles in `time_us` microseconds at `clock_mhz`."""
    return time_us * clock_mhz


def parse_time_us(text: str, *, where: str = "") -> float:
    """Microseconds in "2ms", "800us" or "0.5 s"; a bare number is refused because its unit is unknown."""
    return _parse(text, _TIME_US, "time", "800us, 2ms or 1s", where)


def parse_energy_uj(text: str, *, where: str = "") -> float:
    """Microjoules in "50uJ", "2mJ" or "0.1 J"; a bare number is refused because its unit is unknown."""
    return _parse(text, _ENERGY_UJ, "energy", "50uJ, 2mJ or 1J", where)


def parse_bytes(text: str, *, where: str = "") -> int:
    """Bytes in "512KiB", "1MB" or "4096B"; a bare number is refused because its unit is unknown."""
    return round(_parse(text, _SIZE_BYTES, "size", "512KiB, 2MiB or 4096B", where))


def _parse(text: str, table: dict[str, float] | dict[str, int], what: str, example: str, where: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = match.group(2).lower() if match else ""
    if match is None or unit not in table:
        raise ConfigError(f"{text!r} is not a {what} with a unit", where=where, hint=f"write {example}")
    return float(match.group(1)) * table[unit]


def format_us(time_us: float) -> str:
    """Human form of a latency: `742.1 us` or `3.20 ms`."""
    return f"{time_us:.1f} us" if time_us < 1000 else f"{time_us / 1000:.2f} ms"


def format_uj(energy_uj: float) -> str:
    """Human form of an energy: `742.1 uJ` or `3.20 mJ`."""
    return f"{energy_uj:.1f} uJ" if energy_uj < 1000 else f"{energy_uj / 1000:.2f} mJ"


def format_bytes(size_bytes: float) -> str:
    """Human form of a size: `312 B`, `43.5 KiB` or `3.37 MiB`."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} B"
    return f"{size_bytes / 1024:.1f} KiB" if size_bytes < 1024**2 else f"{size_bytes / 1024**2:.2f} MiB"
