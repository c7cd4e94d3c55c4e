"""`lanefit search --storage`, `--worker` and `lanefit serve`: what is refused, and a worker that finds all done."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import Cli

import lanefit.nas.serving
from lanefit.nas.storage import Place


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("search", "--worker"), "--worker needs the storage"),
        (("search", "--worker", "--storage", "sqlite:///a.db", "--trials", 3), "takes its settings from the search"),
        (("search", "--worker", "--storage", "sqlite:///a.db"), "no search to join"),
        (("search", "--storage", "a.db"), "not the address of a storage"),
        (("search", "--storage", "redis://host/0"), "unknown kind of storage 'redis'"),
        (("serve", "--storage", "journal:///a.log"), "cannot be served"),
    ],
)
def test_storages_that_cannot_be_used_are_refused_with_the_way_on(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli(*words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_serving_ends_with_ctrl_c_and_says_that_nothing_is_lost(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[tuple[Place, str, int]] = []

    def stopped(place: Place, host: str, port: int) -> None:
        served.append((place, host, port))
        raise KeyboardInterrupt

    monkeypatch.setattr(lanefit.nas.serving, "serve", stopped)
    ran = cli("serve", "--storage", f"sqlite:///{tmp_path}/a.db", "--port", 99)
    assert ran.code == 130
    assert "every study is saved" in ran.err
    assert [(found[1], found[2]) for found in served] == [("localhost", 99)]
