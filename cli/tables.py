"""Tables and lines of the terminal reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


class Judged(Protocol):
    """A verdict in one line."""

    @property
    def passed(self) -> bool: ...


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", numbers: Sequence[str] = ()
) -> Table:
    """A table without lines between rows; the columns in `numbers` are right-aligned. Cells are never markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for header in headers:
        found.add_column(header, justify="right" if header in numbers else "left", overflow="fold")
    for row in rows:
        found.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return found


def pairs(rows: Iterable[tuple[str, object]], *, title: str = "") -> Table:
    """Names and values, one pair a line."""
    from rich.table import Table
    from rich.text import Text

    found = Table.grid(padding=(0, 2))
    found.title, found.title_justify = title or None, "left"
    for name, value in rows:
        found.add_row(Text(name), value if isinstance(value, Text) else Text(str(value)))
    return found


def judgement_line(judgement: Judged) -> Text:
    """The first line of a report: PASS or FAIL and each budget with its value, limit and slack."""
    from rich.text import Text

    return Text(str(judgement), style="bold green" if judgement.passed else "bold red")
