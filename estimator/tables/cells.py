"""Cells as numbers and times: the unit stands in the column's name, or the table is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from ...common.errors import TableError
from .rows import Row, Table


class Quantity(StrEnum):
    """What was measured. Estimators count times in µs and energies in µJ; nothing else differs."""

    LATENCY = "latency"
    ENERGY = "energy"


_UNITS = ("s", "ms", "us", "ns", "j", "mj", "uj", "nj")
_NAMES = {
    Quantity.LATENCY: re.compile(r"(?:(?:.*_)?(?:latency|time|duration|median|mean)_)?(s|ms|us|ns)"),
    Quantity.ENERGY: re.compile(r"(?:(?:.*_)?energy_)?(j|mj|uj|nj)"),
}
_MICRO = {"": 1e6, "m": 1e3, "u": 1.0, "n": 1e-3}
_PLURALS = {Quantity.LATENCY: "latencies", Quantity.ENERGY: "energies"}
_MOST = {
    Quantity.LATENCY: (3.6e9, "an hour"),  # no operator and no network that runs on a device takes longer
    Quantity.ENERGY: (1e12, "a megajoule"),
}


class BadCell(ValueError):
    """The text for the problem of a row."""


@dataclass(frozen=True, slots=True)
class MeasuredColumn:
    """The column that holds what was measured, and its unit."""

    name: str
    unit: str
    quantity: Quantity = Quantity.LATENCY

    def micro(self, row: Row) -> float:
        """The positive latency of a row in µs, or its energy in µJ; `BadCell` says what else is there."""
        value = number(row, self.name)
        if "unit" in row.cells and row.cells["unit"] != self.unit:
            raise BadCell(f"unit {row.cells['unit']!r} under a column in {self.unit}: units are mixed")
        if value <= 0:
            article = "an" if self.quantity is Quantity.ENERGY else "a"
            raise BadCell(f"{self.name} is {value:g}; {article} {self.quantity} is positive")
        found = value * _MICRO[self.unit[:-1]]
        most, words = _MOST[self.quantity]
        if found > most:
            raise BadCell(f"{self.name} is {value:g} {self.unit}, more than {words}")
        return found


def measured_column(table: Table, quantity: Quantity = Quantity.LATENCY) -> MeasuredColumn:
    """The one column whose name ends in a unit of the quantity: `ms`, `latency_us`, `median_ns`; `energy_mj`, ...

    Raises:
        TableError: there is none, or there are several and their units are mixed.
    """
    found = _columns_of(table, quantity)
    if not found:
        names = "latency_ms, latency_us" if quantity is Quantity.LATENCY else "energy_mj, energy_uj"
        other = next(q for q in Quantity if q is not quantity)
        more = f"; --quantity {other} reads {_columns_of(table, other)[0].name}" if _columns_of(table, other) else ""
        raise TableError(
            f"{table.path.name} has no {quantity} with a unit in its name",
            where=f"{table.path}:1",
            hint=f"call the column {names}, ...; it has {', '.join(table.columns)}{more}",
        )
    if len(found) > 1:
        names = ", ".join(column.name for column in found)
        raise TableError(
            f"{table.path.name} has several {_PLURALS[quantity]} ({names}): which unit counts is not clear",
            where=f"{table.path}:1",
            hint="keep one of them",
        )
    return found[0]


def _columns_of(table: Table, quantity: Quantity) -> list[MeasuredColumn]:
    matches = ((name, _NAMES[quantity].fullmatch(name)) for name in table.columns)
    return [MeasuredColumn(name, match.group(1), quantity) for name, match in matches if match]


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
