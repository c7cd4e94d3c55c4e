"""`lanefit`: the console script. Commands live in modules of their own and import heavy packages when they run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from ..common.errors import Interrupted, LanefitError
from . import advise, calibrate, curate, export, info, inspection, listing, profile, report, run, search, serve
from .command import DebugOption, FormatOption, NoProgressOption, QuietOption, VerboseOption, merged
from .output import Format, Output, Settings

EXIT_CODES = (
    "Exit codes: 0 done and inside the budget; 1 ran, verdict negative; 2 usage, config or input; "
    "3 device, toolchain or internal failure; 130 interrupted, state saved."
)

# Read by torch's OpenMP when it loads: threads that spin long while they wait would starve whatever else runs.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

app = typer.Typer(
    name="lanefit",
    help="Fits neural networks to the parallel lanes of an edge accelerator, and ships them.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lanefit {installed_version('lanefit')}")
        raise typer.Exit


@app.callback()
def _shared(
    ctx: typer.Context,
    format_: FormatOption = None,
    verbose: VerboseOption = 0,
    quiet: QuietOption = False,
    debug: DebugOption = False,
    no_progress: NoProgressOption = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    given = {"format_": format_, "verbose": verbose, "quiet": quiet, "debug": debug, "no_progress": no_progress}
    ctx.obj = merged(Settings(), given)


app.command("search")(search.search)
app.command("report")(report.report)
app.command("profile")(profile.profile)
app.command("advise")(advise.advise)
app.command("export")(export.export)
app.command("calibrate")(calibrate.calibrate)
app.command("curate")(curate.curate)
app.command("run")(run.run)
app.command("inspect")(inspection.inspect)
app.command("list")(listing.list_)
app.command("info")(info.info)
app.command("serve")(serve.serve)


class UsageProblem(LanefitError):
    """What the parser of the command line refused."""

    code = "usage"


class InternalError(LanefitError):
    """An error that nobody foresaw: a defect of lanefit."""

    code = "internal"
    exit_code = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    output = Output(_settings_in(arguments))
    try:
        code = app(args=arguments, prog_name="lanefit", standalone_mode=False)
    except Exception as problem:
        error = _as_lanefit(problem)
        output.error(error)
        return error.exit_code
    if code == Interrupted.exit_code:
        output.error(Interrupted("interrupted"))
    return code if isinstance(code, int) else 0


def _as_lanefit(problem: Exception) -> LanefitError:
    match problem:
        case LanefitError():
            return problem
        case TyperException():
            context = getattr(problem, "ctx", None)
            path = context.command_path if context else "lanefit"
            error = UsageProblem(problem.format_message(), hint=f"see `{path} --help`")
        case Abort():
            error = Interrupted("interrupted")
        case _:
            hint = "this is a defect of lanefit; run again with --debug and report the traceback"
            error = InternalError(f"{type(problem).__name__}: {problem}", hint=hint)
    error.__cause__ = problem
    return error


def _settings_in(arguments: Sequence[str]) -> Settings:
    """Format and debugging as asked for, also where the command line as a whole cannot be parsed."""
    pairs = zip(["", *arguments], [*arguments, ""], strict=True)
    json = any(first == "--format=json" or (first, second) == ("--format", "json") for first, second in pairs)
    return Settings(format=Format.JSON if json else Format.TABLE, debug="--debug" in arguments)
