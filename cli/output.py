"""`Output`: results to stdout, everything else to stderr. The only place that prints."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..common.errors import LanefitError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PIPE_COLUMNS = 200  # a table in a pipe or file is not squeezed into 80 columns
_LOG_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


class Format(StrEnum):
    """What stdout carries."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that every command has. `verbosity` is -1 (quiet) to 2."""

    format: Format = Format.TABLE
    verbosity: int = 0
    debug: bool = False
    progress: bool = True


class Output:
    """Where a command's result, remarks, progress and error go."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stdout: Console | None = None
        self._stderr: Console | None = None
        level = _LOG_LEVELS[max(-1, min(2, settings.verbosity))]
        logging.getLogger().setLevel(level)
        if logging.lastResort is not None:  # writes to stderr as long as nobody installs another handler
            logging.lastResort.setLevel(level)

    def result(self, document: dict[str, Any], *tables: RenderableType) -> None:
        """Prints `document` as JSON, or `tables` one after the other. A reader that stops early is no error."""
        from rich.text import Text

        try:
            if self.settings.format is Format.JSON:
                sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
            else:
                for table in tables:
                    line = isinstance(table, str | Text)  # never broken, whatever the width
                    self._out().print(table, markup=False, highlight=False, soft_wrap=line)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def note(self, text: str) -> None:
        """A remark for a person, on stderr."""
        if self.settings.verbosity >= 0:
            self._say(text)

    def warn(self, text: str) -> None:
        """Something that changes what the result means, on stderr; also when quiet."""
        self._say(f"warning: {text}", "yellow")

    def error(self, error: LanefitError) -> None:
        """What went wrong: three lines on stderr, or an object on stdout when JSON was asked for."""
        if self.settings.debug:
            traceback.print_exception(error, file=sys.stderr)
        if self.settings.format is Format.JSON:
            self.result({"error": error.as_dict()})
            return
        self._say(f"error: {error.what}", "bold red")
        if error.where:
            self._say(f"  at {error.where}")
        if error.hint:
            self._say(f"hint: {error.hint}", "cyan")

    @contextmanager
    def bar(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        """A progress bar on stderr while the block runs, fed with (done, total, text); nothing off a terminal."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        hidden = not (self.settings.progress and self.settings.verbosity >= 0 and self._err().is_terminal)
        with Progress(*columns, console=self._err(), transient=True, disable=hidden) as progress:
            line = progress.add_task("", total=None)

            def update(done: int, total: int, text: str) -> None:
                progress.update(line, completed=done, total=total, description=text)

            yield update

    def stages(self, title: str) -> Callable[[str], None]:
        """Names the stage that begins: a line on a terminal's stderr, or with -v anywhere."""
        shown = self.settings.progress and self._err().is_terminal and self.settings.verbosity >= 0

        def begin(stage: str) -> None:
            if shown or self.settings.verbosity > 0:
                self._say(f"{title}: {stage}", "dim")

        return begin

    def _say(self, text: str, style: str = "") -> None:
        self._err().print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def _out(self) -> Console:
        if self._stdout is None:
            self._stdout = _console(sys.stdout.isatty(), stderr=False)
        return self._stdout

    def _err(self) -> Console:
        if self._stderr is None:
            self._stderr = _console(sys.stderr.isatty(), stderr=True)
        return self._stderr


def _console(terminal: bool, *, stderr: bool) -> Console:
    from rich.console import Console  # inside: `--help` of a command needs no console of ours

    width = None if terminal or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Console(stderr=stderr, width=width)
