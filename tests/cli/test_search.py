"""`lanefit search`: settings and their precedence, the report, resuming, what stops it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from cli_runner import Cli

import lanefit.nas.estimators
import lanefit.nas.search
import lanefit.nas.workbench
from lanefit.cli.search import default_name
from lanefit.estimator.fit import FitBudget
from lanefit.estimator.network import NetworkEstimator
from lanefit.models.architecture import Architecture, read_architecture
from lanefit.models.registry import families, find_task
from lanefit.nas.config import SearchConfig
from lanefit.nas.estimators import cached_estimator_path, fit_estimator
from lanefit.nas.rundir import RunDirectory
from lanefit.targets.spec import load_spec

SETTINGS = """
strategy = "zero-shot"
proxies = ["params"]
target = "ne-64"
trials = 3
finalists = 1
seed = 3
[knobs]
resolution = [16]
stages = [2]
"""
SMALL = ("--config", "small.toml")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds a small estimator for ne-64."""
    folder = tmp_path_factory.mktemp("cache")
    spec, family, task = load_spec("ne-64"), families.get("ibn-classifier"), find_task("digits")
    budget = FitBudget(workloads=60, probes_per_kind=4, networks=3, trees=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANEFIT_CACHE", str(folder))
        path = cached_estimator_path(spec, family, task)
    fit_estimator(spec, family, task, networks=8, budget=budget).save(path)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LANEFIT_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SETTINGS, encoding="utf-8")


def test_defaults_go_under_file_under_environment_under_flag(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "search.toml"
    path.write_text('trials = 11\nfinalists = 2\n[budgets]\nlatency = "3ms"\nsram = "1MiB"\n', encoding="utf-8")
    monkeypatch.setenv("LANEFIT_TRIALS", "12")
    monkeypatch.setenv("LANEFIT_FINALISTS", "3")
    words = ("search", "--config", path, "--trials", "13", "--epochs", "4", "-b", "latency=2ms", "--dry-run")
    found = tomllib.loads(cli(*words).out)
    assert (found["trials"], found["finalists"], found["strategy"]) == (13, 3, SearchConfig().strategy)
    assert found["budgets"] == {"latency": "2ms", "sram": "1MiB"}
    assert found["train"] == {"epochs": 4}
    assert cli(*words, "--format", "json").document["trials"] == 13


def test_a_search_reports_and_leaves_winner_and_figures(cli: Cli, tmp_path: Path) -> None:
    ran = cli("search", *SMALL, "-b", "latency=100ms", "--name", "first", "--format", "json")
    assert ran.code == 0
    document, run = ran.document, tmp_path / "runs" / "first"
    assert document["verdict"]["passed"] is True
    assert document["trials"]["count"] == 3
    assert document["curation"]["target"] == "ne-64"
    assert document["files"] == ["winner.toml", "pareto.png", "layers.png"]
    winner = Architecture.from_toml((run / "winner.toml").read_text(encoding="utf-8"))
    assert winner.as_dict() == document["winner"]["trial"]["architecture"]
    assert all((run / name).stat().st_size for name in document["files"])
    profiled = cli("profile", "runs/first", "--format", "json").document
    assert profiled["target"] == "ne-64"
    assert profiled["totals"]["latency_us"] == pytest.approx(document["winner"]["measured"]["latency_us"])


def test_a_search_is_resumed_with_more_trials_and_without_curating_again(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert cli("search", *SMALL, "-o", run).code == 0
    again = cli("search", *SMALL, "-o", run)
    assert again.code == 2
    assert f"--resume {run}" in again.err
    monkeypatch.delattr(lanefit.nas.workbench, "curate")
    ran = cli("search", "--resume", run, "--trials", 4)
    assert ran.code == 0
    assert "4, " in next(line for line in ran.out.splitlines() if line.startswith("trials"))
    other = cli("search", "--resume", run, "--task", "mnist")
    assert other.code == 2
    assert "not the search that is stored here" in other.err


def test_a_search_begins_with_a_file_and_with_the_best_of_an_earlier_one(cli: Cli, tmp_path: Path) -> None:
    assert cli("search", *SMALL, "-o", "first").code == 0
    (tmp_path / "mine.toml").write_text(families.get("ibn-classifier").middle().to_toml(), encoding="utf-8")
    words = ("--enqueue", "mine.toml", "--warm-start", "first", "--warm-top", "1", "--seed", "4")
    ran = cli("search", *SMALL, *words, "-o", "second", "--format", "json")
    assert ran.code == 0
    tried = [trial.architecture for trial in RunDirectory(tmp_path / "second").result().trials]
    assert read_architecture(tmp_path / "first" / "winner.toml") == tried[1]
    assert "1 of 1 enqueued architectures had values outside of the space" in ran.document["warnings"][0]
    assert "warm start from first: 1 trials" in ran.document["warnings"][1]


def test_a_curation_of_the_cache_serves_the_next_search_unless_it_is_damaged(
    cli: Cli, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("search", *SMALL, "-o", tmp_path / "first").code == 0
    (kept,) = (cache / "curations").iterdir()
    assert kept.read_bytes() == (tmp_path / "first" / "curation.json").read_bytes()
    monkeypatch.delattr(lanefit.nas.workbench, "curate")
    assert cli("search", *SMALL, "-o", tmp_path / "second").code == 0
    whole = kept.read_text(encoding="utf-8")
    kept.write_text("[]", encoding="utf-8")
    ran = cli("search", *SMALL, "-o", tmp_path / "third")
    kept.write_text(whole, encoding="utf-8")
    assert ran.code == 2
    assert "delete it" in ran.err


def test_an_impossible_budget_shows_the_nearest_misses_with_code_1(cli: Cli, tmp_path: Path) -> None:
    ran = cli("search", *SMALL, "-b", "latency=1ns", "-o", tmp_path / "run")
    assert ran.code == 1
    assert "meets the budget" in ran.err
    assert "nearest misses" in ran.err


def test_ctrl_c_ends_with_130_and_the_command_that_resumes(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lanefit.nas.search, "_search", stopped)
    ran = cli("search", *SMALL, "-o", tmp_path / "run")
    assert ran.code == 130
    assert f"lanefit search --resume {tmp_path / 'run'}" in ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--strategy", "magic"), "unknown strategy 'magic'"),
        (("--sampler", "tpee"), "did you mean tpe"),
        (("--family", "cnn"), "unknown family 'cnn'"),
        (("--task", "digit"), "unknown task 'digit'"),
        (("--target", "ne-1"), "unknown target"),
        (("--trials", "0"), "trials"),
        (("-b", "latency=2"), "not a time with a unit"),
        (("--config", "absent.toml"), "absent.toml does not exist"),
        (("--resume", "absent"), "no search to resume"),
        (("--resume", "absent", "--name", "x"), "takes its settings from the run"),
        (("--strategy", "zero-shot", "-b", "accuracy=97%"), "trains nothing"),
        (("--sampler", "gp"), "strategy hybrid chooses its candidates itself"),
        (("--enqueue", "absent.toml"), "absent.toml"),
        (("--warm-start", "absent"), "no earlier search here"),
    ],
)
def test_bad_settings_are_refused_before_work(cli: Cli, words: tuple[str, ...], says: str) -> None:
    ran = cli("search", *words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("[knobs]\nstage = [2]", "unknown knob 'stage'"),
        ("[knobs]\nstages = [77]", "stages has no value 77"),
        ("[train]\nepoch = 2", "unknown training setting 'epoch'"),
        ("[train]\nbatch_size = 1", "batch_size"),
    ],
)
def test_bad_knobs_and_training_are_refused_before_an_estimator_is_fitted(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, says: str
) -> None:
    monkeypatch.setenv("LANEFIT_CACHE", str(tmp_path / "empty"))
    (tmp_path / "search.toml").write_text(f'target = "ne-64"\n{table}\n', encoding="utf-8")
    ran = cli("search", "--config", "search.toml")
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "fitting" not in ran.err


def test_an_unwritable_cache_is_a_warning_and_the_search_goes_on(
    cli: Cli, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = NetworkEstimator.load(next((cache / "estimators").rglob("*.json")))
    monkeypatch.setattr(lanefit.nas.estimators, "fit_estimator", lambda *_, **__: kept)
    (tmp_path / "file").touch()
    monkeypatch.setenv("LANEFIT_CACHE", str(tmp_path / "file"))
    ran = cli("search", *SMALL, "-o", tmp_path / "run")
    assert ran.code == 0
    assert "warning: the estimator is not kept" in ran.err


@pytest.mark.parametrize("text", ["[budgets", "trials = 'many'", "speed = 1"])
def test_a_corrupt_settings_file_is_named(cli: Cli, tmp_path: Path, text: str) -> None:
    path = tmp_path / "search.toml"
    path.write_text(text, encoding="utf-8")
    ran = cli("search", "--config", path)
    assert ran.code == 2
    assert str(path) in ran.err


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "ibn-classifier-digits-ne-256"),
        ({"task": "folder:/data/flowers", "target": "chips/mine.toml"}, "ibn-classifier-flowers-mine"),
    ],
)
def test_a_run_without_a_name_is_called_after_what_it_searches(settings: dict[str, str], name: str) -> None:
    assert default_name(SearchConfig(**settings)) == name
