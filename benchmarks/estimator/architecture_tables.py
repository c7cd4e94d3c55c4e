"""Published tables of measured architectures, for the scripts of this folder."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lanefit.common.errors import ConfigError, TableError
from lanefit.estimator.devices.graph_arrays import GraphCounts
from lanefit.models.architecture import Architecture
from lanefit.models.mnasnet import parse_columns
from lanefit.models.nas_bench_201 import connected, parse_architecture
from lanefit.nas.written_graph import read_architecture

CLASSES = {"nas-bench-201": 10, "mnasnet": 1000}


@dataclass
class MeasuredArchitectures:
    """Architectures with their times (a throughput's inverse); `dropped` counts rows that were left out, by reason."""

    family: str
    architectures: list[Architecture]
    time: NDArray[np.float64]
    dropped: dict[str, int]
    _read: dict[tuple[int, str], GraphCounts] = field(default_factory=dict)

    def counts(self, index: int, reading: str) -> GraphCounts:
        """What row `index` executes under a reading; remembered, since seeds share most networks."""
        key = (index, reading)
        if key not in self._read:
            self._read[key] = read_architecture(self.architectures[index], reading, classes=CLASSES[self.family])
        return self._read[key]


def read_measured(path: Path, family: str, column: str) -> MeasuredArchitectures:
    """One column of a table whose other columns say what the networks are.

    Raises:
        TableError: a column that is missing, or no row that can be used.
    """
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or column not in rows[0]:
        raise TableError(f"column {column!r} is missing", where=str(path))
    per_second = "throughput" in column
    found, times, dropped = list[Architecture](), list[float](), Counter[str]()
    for row in rows:
        value = _number(row[column])
        if value is None or value <= 0:
            dropped["empty" if not (row[column] or "").strip() else "not a positive number"] += 1
            continue
        try:
            architecture = _PARSERS[family](row)
        except (ConfigError, KeyError):
            dropped["no architecture"] += 1
            continue
        if family == "nas-bench-201" and not connected(architecture):
            dropped["disconnected"] += 1
            continue
        found.append(architecture)
        times.append(1 / value if per_second else value)
    if not found:
        raise TableError("no row can be used", where=str(path), hint=f"dropped: {dict(dropped)}")
    return MeasuredArchitectures(family, found, np.array(times), dict(dropped))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _cell(row: Mapping[str, str]) -> Architecture:
    return parse_architecture(row["arch_str"])


_PARSERS: Mapping[str, Callable[[Mapping[str, str]], Architecture]] = {
    "nas-bench-201": _cell,
    "mnasnet": parse_columns,
}
