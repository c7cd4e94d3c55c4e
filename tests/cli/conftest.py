"""Runs the program in this process, and the small networks that the commands are tried on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import TINY, Cli, Ran

from lanefit.cli.main import main
from lanefit.models.architecture import Architecture


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Calls `lanefit` with words; the levels of logging are put back afterwards."""
    for name in ("LANEFIT_TARGET", "LANEFIT_BUDGET", "LANEFIT_TRIALS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    level = logging.getLogger().level

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    yield run
    logging.getLogger().setLevel(level)
    assert logging.lastResort is not None
    logging.lastResort.setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def architecture_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of four layers."""
    path = tmp_path_factory.mktemp("architecture") / "tiny.toml"
    path.write_text(Architecture.of("ibn-classifier", TINY).to_toml(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def package_file(architecture_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network, untrained, exported for ne-64 by the command itself."""
    path = tmp_path_factory.mktemp("package") / "tiny.lanefit"
    assert main(["-q", "export", str(architecture_file), "--target", "ne-64", "-o", str(path)]) == 0
    return path
