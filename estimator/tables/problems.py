"""What is wrong with a table, row by row, and the one error that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...common.errors import TableError

_LISTED = 12  # row numbers in a message


@dataclass(frozen=True, slots=True)
class Problem:
    """`row` is the line of the file as an editor counts it: the header is row 1."""

    row: int
    text: str


def refuse(path: Path, problems: Sequence[Problem]) -> None:
    """Raises `TableError` for one or more problems: the first in full, the rows of all."""
    if not problems:
        return
    ordered = sorted(problems, key=lambda problem: problem.row)
    rows = tuple(dict.fromkeys(problem.row for problem in ordered))
    more = f"; {len(rows)} rows cannot be used: {_listing(rows)}" if len(rows) > 1 else ""
    raise TableError(
        f"row {ordered[0].row} of {path.name}: {ordered[0].text}{more}",
        where=f"{path}:{ordered[0].row}",
        hint="correct these rows or take them out; nothing is guessed or left out silently",
    )


def _listing(rows: Sequence[int]) -> str:
    shown = ", ".join(str(row) for row in rows[:_LISTED])
    return f"{shown} and {len(rows) - _LISTED} more" if len(rows) > _LISTED else shown
