"""The generated part of docs/cli.md: every command with its arguments and options, from the app itself.

python -m lanefit.cli.reference docs/cli.md
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from typer.main import get_command

from ..common.errors import ConfigError
from ..common.files import write_atomic
from .command import SHARED_OPTIONS
from .main import app

BEGIN, END = "<!-- generated: commands -->", "<!-- end of generated part -->"


def reference() -> str:
    """Markdown with one section per command; the options that all have come once, at the end."""
    root: Any = get_command(app)
    sections = [_section(name, found) for name, found in root.commands.items()]
    shared = next(iter(root.commands.values()))
    rows = [_row(p) for p in shared.params if p.name in SHARED_OPTIONS]
    return "\n".join([*sections, "### Options of every command", "", *_table(rows)])


def with_reference(document: str) -> str:
    """`document` with the part between the marks replaced; `ConfigError` when it has no marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"the document lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def _section(name: str, found: Any) -> str:
    own = [p for p in found.params if p.name not in SHARED_OPTIONS]
    rows = [_row(p) for p in own]
    return "\n".join([f"### `lanefit {name}`", "", *_paragraphs(found.help), "", *_table(rows)])


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) if part.strip() else "" for part in text.strip().split("\n")]


def _row(parameter: Any) -> tuple[str, str]:
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name).strip('[]')}`", parameter.help or ""
    value = "" if parameter.is_flag or parameter.count else f" {parameter.metavar or 'N'}"
    more = [f"`{parameter.envvar}` in the environment"] if parameter.envvar else []
    if parameter.show_default and parameter.default not in (None, "", False):
        more.append(f"default {parameter.default}")
    text = f"{parameter.help} ({', '.join(more)})" if more else parameter.help
    return f"`{', '.join(parameter.opts)}{value}`", text


def _table(rows: list[tuple[str, str]]) -> list[str]:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return ["| | |", "|---|---|", *lines, ""]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_atomic(target, with_reference(target.read_text(encoding="utf-8")).encode())
