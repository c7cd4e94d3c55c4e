"""`lanefit info`: the environment for a bug report, or one target in full."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .command import command
from .output import Output
from .tables import pairs


@command
def info(
    output: Output,
    target: Annotated[
        str, typer.Argument(metavar="[TARGET]", help="Engine to describe: a preset or FILE.toml.", show_default=False)
    ] = "",
    toml: Annotated[bool, typer.Option("--toml", help="Print the target as a TOML file to start from.")] = False,
) -> int:
    """Show versions and machine for a bug report, or the full description of a target."""
    if not target:
        return _environment(output)
    from ..targets.spec import load_spec, spec_to_toml

    spec = load_spec(target)
    document = {**spec.as_dict(), "parallelism": spec.parallelism, "digest": spec.digest()}
    shown = spec_to_toml(spec).rstrip() if toml else pairs(document.items())
    output.result(document, shown)
    return 0


def _environment(output: Output) -> int:
    from ..common.environment import environment, versions

    document: dict[str, Any] = {"versions": versions(), "environment": environment()}
    rows = [*document["versions"].items(), *document["environment"].items()]
    output.result(document, pairs(rows))
    return 0
