"""The program as a whole: help, streams, formats, errors and exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_runner import Cli

import lanefit.cli.listing
from lanefit.cli.command import merged
from lanefit.cli.output import Format, Output, Settings

COMMANDS = ("search", "profile", "advise", "export", "run", "inspect", "list", "info", "serve")
HEAVY = ("torch", "tvm", "sklearn", "optuna", "onnx", "onnxruntime", "matplotlib", "scipy", "numpy")


def test_help_of_every_command_imports_nothing_heavy() -> None:
    script = f"""
import sys
from lanefit.cli.main import main
codes = [main(["--help"])]
codes += [main([name, "--help"]) for name in {COMMANDS!r}]
heavy = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"{{codes}} {{heavy}}" if any(codes) or heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_help_and_has_its_own(cli: Cli, name: str) -> None:
    assert name in cli("--help").out
    own = cli(name, "--help")
    assert own.code == 0
    assert "--format" in own.out


def test_exit_codes_are_in_the_help(cli: Cli) -> None:
    assert "130 interrupted" in " ".join(cli("--help").out.split())


def test_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out.startswith("lanefit ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("lst",), "No such command"),
        (("list", "nothing"), "nothing"),
        (("list", "targets", "--nonsense"), "--nonsense"),
        (("profile",), "MODEL"),
        (("--format", "yaml", "list", "targets"), "yaml"),
    ],
)
def test_wrong_usage_is_explained_with_code_2(cli: Cli, words: tuple[str, ...], says: str) -> None:
    ran = cli(*words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "hint: see `lanefit" in ran.err


def test_an_error_has_what_where_and_hint_on_stderr(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text("[engine", encoding="utf-8")
    ran = cli("info", path)
    assert (ran.code, ran.out) == (2, "")
    assert "error: not valid TOML" in ran.err
    assert f"  at {path}" in ran.err
    assert "Traceback" not in ran.err


def test_an_unknown_target_lists_the_known_ones(cli: Cli) -> None:
    ran = cli("info", "ne-25")
    assert ran.code == 2
    assert "hint: did you mean ne-256" in ran.err


@pytest.mark.parametrize("words", [("--format", "json", "info", "ne-1"), ("info", "ne-1", "--format=json")])
def test_an_error_in_json_is_an_object_on_stdout(cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli(*words)
    assert ran.code == 2
    assert ran.document["error"]["code"] == "unknown-name"
    assert set(ran.document["error"]) == {"code", "what", "where", "hint"}
    assert ran.err == ""


def test_a_usage_error_in_json_is_an_object_too(cli: Cli) -> None:
    assert cli("list", "nothing", "--format", "json").document["error"]["code"] == "usage"


def test_debug_shows_the_traceback(cli: Cli) -> None:
    assert "Traceback" in cli("info", "ne-1", "--debug").err
    assert "Traceback" in cli("--debug", "info", "ne-1").err


def test_a_defect_is_reported_as_such_with_code_3(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setitem(lanefit.cli.listing._LISTS, lanefit.cli.listing.Kind.TARGETS, broken)
    ran = cli("list", "targets")
    assert ran.code == 3
    assert "ZeroDivisionError: oops" in ran.err
    assert "--debug" in ran.err


def test_an_interruption_ends_with_code_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(lanefit.cli.listing._LISTS, lanefit.cli.listing.Kind.TARGETS, stopped)
    ran = cli("list", "targets")
    assert ran.code == 130
    assert "interrupted" in ran.err


def test_options_after_the_command_go_over_those_before() -> None:
    before = Settings(Format.JSON, 1, debug=True)
    nothing = {"format_": None, "verbose": 0, "quiet": False, "debug": False, "no_progress": False}
    assert merged(before, nothing) == before
    assert merged(before, {**nothing, "format_": Format.TABLE, "quiet": True}) == Settings(Format.TABLE, -1, debug=True)


def test_a_table_in_a_pipe_has_no_escape_codes_and_one_line_a_row(cli: Cli) -> None:
    out = cli("list", "ops").out
    assert "\x1b" not in out
    assert sum("constant-weights" in line and "Conv " in line for line in out.splitlines()) == 1


def test_no_color_is_honoured_where_colour_is_forced() -> None:
    command = [sys.executable, "-c", "from lanefit.cli.main import main; main(['info', 'ne-1'])"]
    for variables, coloured in (({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)):
        environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", **variables}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert ("\x1b[1;31m" in done.stderr or "\x1b[31m" in done.stderr) == coloured


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f"{sys.executable} -c \"from lanefit.cli.main import main; raise SystemExit(main(['list', 'ops']))\""
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_quiet_hides_remarks_but_not_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(Settings(verbosity=-1))
    output.note("a remark")
    output.warn("a warning")
    output.stages("export")("compile")
    assert capsys.readouterr().err == "warning: a warning\n"


def test_no_bar_is_drawn_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(Settings()).bar("search") as update:
        update(1, 2, "half")
    assert capsys.readouterr().err == ""


def test_markup_in_names_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Settings()).warn("[bold]x[/bold] [/nothing]")
    assert "[bold]x[/bold] [/nothing]" in capsys.readouterr().err
