"""Which device measured, and in what state it was: without this a measurement cannot be judged later."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...common.environment import environment

_CPU = Path("/sys/devices/system/cpu/cpu0")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def host_device() -> str:
    """This host as a measurement's key names it: processor and number of cores."""
    found = environment()
    return f"{found['processor']}, {found['cores']} cores"


def host_state() -> dict[str, str | float]:
    """Load, governor and clock of this host now; what the system does not tell is left out."""
    found = environment()
    state: dict[str, str | float] = {"system": str(found["system"]), "cores_available": float(found["cores_available"])}
    if found["load_1min"] is not None:
        state["load_1min"] = float(found["load_1min"])
    if found["governor"]:
        state["governor"] = str(found["governor"])
    if (clock := _clock_mhz()) is not None:
        state["clock_mhz"] = clock
    if (stolen := _stolen_seconds()) is not None:
        state["stolen_s"] = stolen
    return state


def caches() -> tuple[int, ...]:
    """Bytes of the data caches of one core, from the second level outwards; empty where the system does not say."""
    sizes: dict[int, int] = {}
    for folder in sorted((_CPU / "cache").glob("index*")):
        level, kind, size = (_text(folder / name) for name in ("level", "type", "size"))
        if level and size and kind != "Instruction":
            sizes[int(level)] = int(size[:-1]) * _UNITS[size[-1]] if size[-1] in _UNITS else int(size)
    return tuple(size for level, size in sorted(sizes.items()) if level >= 2)


def cache_steps() -> tuple[int, ...]:
    """Capacities at which data becomes slower to fetch on this host: the second cache's, and parts of the outermost.

    The outermost cache is shared with other cores and, in a virtual machine, with other machines; how much of it
    serves this one is found by calibration.
    """
    found = caches() or (2**20, 2**25)
    inner, outer = found[0], found[-1]
    return (inner, *(part for part in (outer // 8, outer // 4, outer // 2, outer) if part > 2 * inner))


@contextmanager
def pinned(processors: Sequence[int]) -> Iterator[None]:
    """Keeps the calling thread, and threads that it starts meanwhile, on `processors`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _clock_mhz() -> float | None:
    text = _text(_CPU / "cpufreq" / "scaling_cur_freq")
    return int(text) / 1e3 if text.isdigit() else None


def _stolen_seconds() -> float | None:
    """Seconds that a hypervisor has kept the processors from this system since it started."""
    fields = _text(Path("/proc/stat")).split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 and fields[0] == "cpu" else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").splitlines()[0].strip()
    except (OSError, IndexError):
        return ""
