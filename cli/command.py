"""`command`: gives a command function the options that all commands have, and its `Output`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from .output import Format, Output, Settings

_PANEL = "Options of every command"
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="table|json",
        help="What stdout carries; a table by default.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
VerboseOption = Annotated[
    int,
    typer.Option(
        "-v", "--verbose", count=True, help="More on stderr; -vv for all.", show_default=False, rich_help_panel=_PANEL
    ),
]
QuietOption = Annotated[
    bool, typer.Option("-q", "--quiet", help="Only warnings and errors on stderr.", rich_help_panel=_PANEL)
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Tracebacks with errors.", rich_help_panel=_PANEL)]
NoProgressOption = Annotated[bool, typer.Option("--no-progress", help="No progress bars.", rich_help_panel=_PANEL)]

SHARED_OPTIONS: dict[str, tuple[Any, Any]] = {
    "format_": (FormatOption, None),
    "verbose": (VerboseOption, 0),
    "quiet": (QuietOption, False),
    "debug": (DebugOption, False),
    "no_progress": (NoProgressOption, False),
}


def merged(before: Settings, values: dict[str, Any]) -> Settings:
    """`before` overridden by the shared options in `values` that were given."""
    verbosity = -1 if values["quiet"] else values["verbose"]
    return Settings(
        format=values["format_"] or before.format,
        verbosity=verbosity or before.verbosity,
        debug=values["debug"] or before.debug,
        progress=before.progress and not values["no_progress"],
    )


def command(function: Callable[..., int]) -> Callable[..., int]:
    """A typer command out of `function(output, ...)`, whose result is the exit code.

    The shared options may stand before or after the command's name; after it wins.
    """
    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "output"
    ]

    @functools.wraps(function)
    def wrapper(ctx: typer.Context, **values: Any) -> int:
        shared = {name: values.pop(name) for name in SHARED_OPTIONS}
        return function(Output(merged(ctx.obj or Settings(), shared)), **values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", keyword, annotation=typer.Context), *(p.replace(kind=keyword) for p in own)]
    parameters += [inspect.Parameter(n, keyword, default=d, annotation=a) for n, (a, d) in SHARED_OPTIONS.items()]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del wrapper.__wrapped__
    return wrapper
