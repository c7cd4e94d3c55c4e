"""Cells as numbers and times: the unit stands in the column's name, or the table is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from ...common.errors import TableError
from ...common.units import parse_time_us
from .rows import Row, Table

_UNITS = ("s", "ms", "us", "ns")
_TIME_NAME = re.compile(r"(?:(?:.*_)?(?:latency|time|duration|median|mean)_)?(s|ms|us|ns)")
_LONGEST_US = 3.6e9  # an hour: no operator and no network that runs on a device takes longer


class BadCell(ValueError):
    """The text for the problem of a row."""


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """The column that holds the latencies, and what one of its units is in microseconds."""

    name: str
    unit: str

    def microseconds(self, row: Row) -> float:
        """The positive latency of a row; `BadCell` says what else is there."""
        value = number(row, self.name)
        if "unit" in row.cells and row.cells["unit"] != self.unit:
            raise BadCell(f"unit {row.cells['unit']!r} under a column in {self.unit}: units are mixed")
        if value <= 0:
            raise BadCell(f"{self.name} is {value:g}; a latency is positive")
        found = value * parse_time_us(f"1{self.unit}")
        if found > _LONGEST_US:
            raise BadCell(f"{self.name} is {value:g} {self.unit}, more than an hour")
        return found


def time_column(table: Table) -> TimeColumn:
    """The one column whose name ends in a unit of time: `ms`, `latency_us`, `median_ns`, ...

    Raises:
        TableError: there is none, or there are several and their units are mixed.
    """
    matches = ((name, _TIME_NAME.fullmatch(name)) for name in table.columns)
    found = [TimeColumn(name, match.group(1)) for name, match in matches if match]
    if not found:
        raise TableError(
            f"{table.path.name} has no latency with a unit in its name",
            where=f"{table.path}:1",
            hint=f"call the column latency_ms, latency_us, ...; it has {', '.join(table.columns)}",
        )
    if len(found) > 1:
        names = ", ".join(column.name for column in found)
        raise TableError(
            f"{table.path.name} has several latencies ({names}): which unit counts is not clear",
            where=f"{table.path}:1",
            hint="keep one of them",
        )
    return found[0]


def number(row: Row, column: str) -> float:
    """A finite number without a unit."""
    text = row.cells[column]
    if not text:
        raise BadCell(f"{column} is empty")
    try:
        value = float(text)
    except ValueError as error:
        unit = text.rstrip().lower().endswith(_UNITS) and any(c.isdigit() for c in text)
        more = "; units belong into the name of the column" if unit else ""
        raise BadCell(f"{column} is {text!r}, not a number{more}") from error
    if not isfinite(value):
        raise BadCell(f"{column} is {text!r}, not a finite number")
    return value


def count(row: Row, column: str, *, default: int | None = None, least: int = 1) -> int:
    """A whole number of at least `least`; `default` when the column is absent."""
    if column not in row.cells and default is not None:
        return default
    value = number(row, column)
    if value != int(value) or value < least or value > 2**40:
        raise BadCell(f"{column} is {row.cells[column]!r}, not a whole number from {least}")
    return int(value)
