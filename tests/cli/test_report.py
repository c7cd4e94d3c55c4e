"""`lanefit report`: the page, its document, what it says where something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import Cli
from report_runs import formula_run
from rich.console import Console

from lanefit.cli.search_report import search_document, search_tables
from lanefit.common.errors import BudgetError


@pytest.fixture(autouse=True)
def _no_estimator_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEFIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "first"
    formula_run(path, trials=24)
    return path


def test_a_report_lies_in_the_run_and_shows_the_winner_against_the_baseline(cli: Cli, run: Path) -> None:
    ran = cli("report", run, "--format", "json")
    assert (ran.code, set(ran.document["missing"])) == (0, {"landscape"})
    assert "lanefit curate ibn-classifier --target ne-64" in ran.document["missing"]["landscape"]
    assert ran.document["file"] == str(run / "report.html")
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "mobilenet-v2: " in text
    assert "winner (trial " in text


def test_the_baseline_may_be_a_file(cli: Cli, run: Path, architecture_file: Path, tmp_path: Path) -> None:
    ran = cli("report", run, "-o", tmp_path / "page.html", "--baseline", architecture_file)
    assert ran.code == 0
    assert f"{architecture_file}: " in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_baseline_without_an_architecture_is_refused(cli: Cli, run: Path) -> None:
    ran = cli("report", run, "--baseline", "model.onnx")
    assert ran.code == 2
    assert "not an architecture" in ran.err


def test_a_search_that_found_nothing_shows_its_nearest_miss(cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(BudgetError):
        formula_run(tmp_path / "run", trials=12, budgets={"latency": "1us"})
    ran = cli("report", tmp_path / "run", "--format", "json")
    assert ran.code == 0
    assert "history" in ran.document["missing"]
    assert "architecture" in ran.document["figures"]
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "nearest miss (trial " in text


def test_a_search_says_how_many_predictions_broke_the_budget(tmp_path: Path) -> None:
    source = formula_run(tmp_path / "run", trials=12)
    document = search_document(tmp_path / "run", source.result, None, [])
    assert document["violations"] == {"measured": 3, "outside": 0, "above": 0, "rate": 0}
    console = Console(width=200)
    with console.capture() as captured:
        for part in search_tables(tmp_path / "run", source.result, None, []):
            console.print(part)
    assert "0 of 3 candidates" in captured.get()


def test_a_folder_that_holds_no_search_is_refused(cli: Cli, tmp_path: Path) -> None:
    ran = cli("report", tmp_path)
    assert ran.code == 2
    assert "holds no search" in ran.err
