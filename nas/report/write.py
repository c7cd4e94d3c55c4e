"""`write_report`: one HTML file about a search that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ...common.files import write_atomic
from .sections import Extras, Section, sections
from .source import Source
from .tables import tables

if TYPE_CHECKING:
    from jinja2 import Template


def write_report(
    source: Source,
    path: Path,
    extras: Extras = Extras(),  # noqa: B008  (frozen)
) -> list[Section]:
    """Writes the page to `path` atomically and returns its sections."""
    parts = sections(source, extras)
    write_atomic(path, render(source, parts).encode())
    return parts


def render(source: Source, parts: Sequence[Section]) -> str:
    """The page as text; equal data gives equal text. The library that draws makes up 5 MB of it."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    result = source.result
    return _template().render(
        name=source.name,
        passed=result.winner is not None,
        verdict=_verdict(source),
        remarks=source.gaps,
        warnings=[*result.warnings, *(f"nearest miss: {line}" for line in result.misses)],
        parts=parts,
        tables=tables(source),
        plotly=Markup(get_plotlyjs()),
        plots=_script({part.key: json.loads(str(part.figure.to_json())) for part in parts if part.figure is not None}),
        version=version("lanefit"),
    )


def _verdict(source: Source) -> str:
    result = source.result
    if result.winner is not None:
        return f"{result.winner.verdict}: trial {result.winner.trial.index} of {len(result.trials):,}"
    if source.status in ("done", "over-budget"):
        return f"FAIL  none of {len(result.trials):,} candidates meets the budget ({result.budget})"
    return f"{source.status}: {len(result.trials):,} of {source.config.trials:,} trials are finished"


def _script(value: object) -> str:
    """JSON that no string in it can end early, whatever a user called things."""
    return json.dumps(value, sort_keys=True, allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")


@cache
def _template() -> Template:
    from jinja2 import Environment

    text = files("lanefit.nas.report").joinpath("page.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
