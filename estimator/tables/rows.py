"""CSV text as rows of named cells, each with the number of its line."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...common.errors import TableError
from .problems import Problem

_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Row:
    """Stripped texts by column; `number` counts lines from 1, the header included."""

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows that have as many cells as the header, and what is wrong with the others."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]


def read_table(path: Path) -> Table:
    """The cells of a CSV file with a header, as UTF-8 text; empty lines are skipped.

    Raises:
        TableError: the file is absent, no text or without rows, or two columns share a name.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows: list[Row] = []
    problems: list[Problem] = []
    try:
        columns = _header(path, next(reader, []))
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) == len(columns):
                rows.append(Row(reader.line_num, dict(zip(columns, (c.strip() for c in cells), strict=True))))
            else:
                problems.append(Problem(reader.line_num, f"{len(cells)} cells under {len(columns)} columns"))
    except csv.Error as error:
        raise TableError(f"row {reader.line_num} of {path.name}: {error}", where=f"{path}:{reader.line_num}") from error
    if not rows and not problems:
        raise TableError(f"{path.name} has no rows under its header", where=str(path))
    return Table(path, columns, tuple(rows), tuple(problems))


def require_columns(table: Table, required: Collection[str]) -> None:
    """Raises `TableError` naming the columns that are missing."""
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise TableError(
            f"{table.path.name} has no column {', '.join(missing)}",
            where=f"{table.path}:1",
            hint=f"it has {', '.join(table.columns)}",
        )


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise TableError(f"{path.name} is larger than a table of measurements can be", where=str(path))
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TableError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path.name} is not UTF-8 text", where=str(path), hint="save it as CSV") from error
    if "\0" in text:
        raise TableError(f"{path.name} is not text: it holds zero bytes", where=str(path), hint="save it as CSV")
    return text


def _header(path: Path, cells: list[str]) -> tuple[str, ...]:
    names = tuple(cell.strip() for cell in cells)
    if not names or not all(names):
        raise TableError(f"{path.name} needs a header that names every column", where=f"{path}:1")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise TableError(f"{path.name} has two columns called {', '.join(twice)}", where=f"{path}:1")
    return names
