"""Published tables of NAS-Bench-201 cells: one column by architecture string, from any file that has both."""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lanefit.common.errors import ConfigError, TableError
from lanefit.models.architecture import Architecture
from lanefit.models.nas_bench_201 import connected, parse_architecture

ARCHITECTURE = "arch_str"


@dataclass(frozen=True)
class CellColumn:
    """Values of connected cells by architecture digest; `dropped` counts rows that were left out, by reason."""

    name: str
    values: dict[str, float]
    architectures: dict[str, Architecture]
    dropped: dict[str, int]


def read_column(argument: str) -> CellColumn:
    """Reads "FILE:COLUMN".

    Raises:
        ConfigError: an argument without a colon.
        TableError: no such file or column, an architecture given twice, or no usable row.
    """
    file, colon, column = argument.rpartition(":")
    if not colon or not file or not column:
        raise ConfigError(f"expected FILE:COLUMN, got {argument!r}")
    rows = _rows(Path(file), column)
    values, architectures, dropped = dict[str, float](), dict[str, Architecture](), Counter[str]()
    for number, row in enumerate(rows, start=2):
        found = _row(row, column)
        if isinstance(found, str):
            dropped[found] += 1
            continue
        architecture, value = found
        digest = architecture.digest()
        if digest in values:
            raise TableError(f"{row[ARCHITECTURE]} stands there twice", where=f"{file}:{number}")
        values[digest], architectures[digest] = value, architecture
    if not values:
        raise TableError("no row can be used", where=file, hint=f"dropped: {dict(dropped)}")
    return CellColumn(column, values, architectures, dict(dropped))


def read_accuracy(argument: str) -> CellColumn:
    """Accuracies as shares in 0..1; a column with values above 1 is in percent."""
    found = read_column(argument)
    scale = 100.0 if max(found.values.values()) > 1 else 1.0
    shares = {digest: value / scale for digest, value in found.values.items()}
    if max(shares.values()) > 1 or min(shares.values()) < 0:
        raise TableError(f"column {found.name!r} is no accuracy", where=argument, hint="give shares or per cent")
    return CellColumn(found.name, shares, found.architectures, found.dropped)


def read_cost(argument: str) -> CellColumn:
    """Positive costs; a throughput is turned into time."""
    found = read_column(argument)
    usable = {digest: value for digest, value in found.values.items() if value > 0}
    if not usable:
        raise TableError(f"column {found.name!r} has no positive value", where=argument)
    values = {digest: 1 / value if "throughput" in found.name else value for digest, value in usable.items()}
    dropped = {**found.dropped, "not positive": len(found.values) - len(usable)}
    return CellColumn(found.name, values, found.architectures, dropped)


def _rows(file: Path, column: str) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise TableError(f"cannot read {file.name}: {error.strerror}", where=str(file)) from error
    for name in (ARCHITECTURE, column):
        if not rows or name not in rows[0]:
            known = ", ".join(rows[0]) if rows else "none"
            raise TableError(f"column {name!r} is missing", where=str(file), hint=f"columns: {known}")
    return rows


def _row(row: dict[str, str], column: str) -> tuple[Architecture, float] | str:
    """Architecture and value, or the reason for leaving the row out."""
    try:
        architecture = parse_architecture(row[ARCHITECTURE])
    except ConfigError:
        return "no architecture"
    try:
        value = float(row[column] or "nan")
    except ValueError:
        return "no number"
    if not math.isfinite(value):
        return "empty"
    return (architecture, value) if connected(architecture) else "disconnected"
