"""A search that is killed, interrupted or continued later equals one that was left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import nas_fakes
import pytest
from nas_fakes import FakeBench, toy_config

from lanefit.common.errors import ConfigError, InputError, Interrupted
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.sampler_factories import POPULATION
from lanefit.nas.search import run_search
from lanefit.nas.session import Step


def _search_in_a_process(directory: Path, *arguments: object) -> int:
    command = [sys.executable, nas_fakes.__file__, str(directory), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def _results(directory: Path) -> dict[str, object]:
    return RunDirectory(directory).read()["results"]


@pytest.mark.parametrize(
    ("sampler", "strategy", "kills"),
    [
        # NSGA-II: the second kill hits the very trial that draws the first children of a generation
        pytest.param("nsga2", "zero-shot", [8, POPULATION - 7 + 1, 3], id="nsga2"),
        pytest.param("tpe", "zero-shot", [14, 8], id="tpe"),
        pytest.param("auto", "hybrid", [14, 8], id="hybrid"),
        pytest.param("tpe", "multi-shot", [19], id="tpe-pruning"),
    ],
)
def test_a_killed_and_resumed_search_equals_an_undisturbed_one(
    tmp_path: Path, sampler: str, strategy: str, kills: list[int]
) -> None:
    nas_fakes.main(str(tmp_path / "whole"), sampler, strategy, "0")
    for kill_at in kills:
        assert _search_in_a_process(tmp_path / "killed", sampler, strategy, kill_at) == -signal.SIGKILL
    nas_fakes.main(str(tmp_path / "killed"), sampler, strategy, "0")
    assert _results(tmp_path / "killed") == _results(tmp_path / "whole")


def test_a_search_killed_while_training_keeps_the_finalists_that_are_trained(tmp_path: Path) -> None:
    assert _search_in_a_process(tmp_path / "run", "auto", "hybrid", 0, 3) == -signal.SIGKILL
    bench = FakeBench()
    run_search(None, tmp_path / "run", bench, resume=True)
    assert (bench.estimates, bench.trainings) == (0, 1)


def test_interrupting_saves_the_state_and_names_the_command_that_continues(tmp_path: Path) -> None:
    whole = run_search(toy_config(), tmp_path / "whole", FakeBench())
    with pytest.raises(Interrupted, match="every finished trial") as caught:
        run_search(toy_config(), tmp_path / "run", FakeBench(interrupt_at=7))
    assert caught.value.hint.endswith(f"--resume {tmp_path / 'run'}")
    assert RunDirectory(tmp_path / "run").read()["status"] == "interrupted"
    assert run_search(None, tmp_path / "run", FakeBench(), resume=True) == whole


def test_a_run_that_was_moved_resumes_where_it_stopped(tmp_path: Path) -> None:
    whole = run_search(toy_config(), tmp_path / "whole", FakeBench())
    with pytest.raises(Interrupted):
        run_search(toy_config(), tmp_path / "before", FakeBench(interrupt_at=7))
    (tmp_path / "before").rename(tmp_path / "after")
    assert run_search(None, tmp_path / "after", FakeBench(), resume=True) == whole


def test_interrupting_in_the_middle_of_a_finalist_saves_the_trials(tmp_path: Path) -> None:
    def stop(step: Step) -> None:
        if step.stage == "train" and step.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run_search(toy_config(), tmp_path / "run", FakeBench(), progress=stop)
    bench = FakeBench()
    result = run_search(None, tmp_path / "run", bench, resume=True)
    assert (bench.estimates, bench.scored, bench.trainings) == (0, 0, 2)
    assert result == run_search(toy_config(), tmp_path / "whole", FakeBench())


def test_resuming_a_finished_search_returns_its_result_without_work(tmp_path: Path) -> None:
    first = run_search(toy_config(), tmp_path / "run", FakeBench())
    bench = FakeBench()
    assert run_search(toy_config(seed=None), tmp_path / "run", bench, resume=True) == first
    assert (bench.estimates, bench.scored, bench.trainings) == (0, 0, 0)


def test_more_trials_continue_the_same_search(tmp_path: Path) -> None:
    config = toy_config(strategy="zero-shot")
    run_search(config.replaced(trials=8), tmp_path / "run", FakeBench())
    longer = run_search(config, tmp_path / "run", FakeBench(), resume=True)
    assert longer.trials == run_search(config, tmp_path / "whole", FakeBench()).trials


def test_a_deleted_weight_file_is_trained_again(tmp_path: Path) -> None:
    first = run_search(toy_config(), tmp_path / "run", FakeBench())
    assert first.winner is not None
    (tmp_path / "run" / first.winner.weights).write_bytes(b"half a file")
    bench = FakeBench()
    assert run_search(None, tmp_path / "run", bench, resume=True) == first
    assert bench.trainings == 1


@pytest.mark.parametrize("change", [{"sampler": "random"}, {"seed": 8}, {"budgets": {"latency": "1ms"}}, {"trials": 5}])
def test_resuming_another_search_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    run_search(toy_config(trials=6), tmp_path / "run", FakeBench())
    with pytest.raises(ConfigError, match=f"{next(iter(change))}"):
        run_search(toy_config(**{"trials": 6, **change}), tmp_path / "run", FakeBench(), resume=True)


def test_resuming_with_another_estimator_is_refused(tmp_path: Path) -> None:
    run_search(toy_config(trials=3), tmp_path / "run", FakeBench(), facts={"estimator": "abc"})
    with pytest.raises(ConfigError, match="estimator changed since"):
        run_search(None, tmp_path / "run", FakeBench(), resume=True, facts={"estimator": "def"})


def test_a_second_search_in_the_same_directory_is_refused_with_the_way_on(tmp_path: Path) -> None:
    run_search(toy_config(trials=3), tmp_path / "run", FakeBench())
    with pytest.raises(ConfigError, match="already holds a search") as caught:
        run_search(toy_config(trials=3), tmp_path / "run", FakeBench())
    assert "--resume" in caught.value.hint


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no search to resume"):
        run_search(None, tmp_path / "run", FakeBench(), resume=True)


def test_a_running_search_locks_its_directory(tmp_path: Path) -> None:
    with RunDirectory(tmp_path).locked(), pytest.raises(InputError, match="another search is running"):
        run_search(toy_config(), tmp_path, FakeBench())


def test_a_damaged_study_is_an_input_error(tmp_path: Path) -> None:
    run_search(toy_config(trials=3), tmp_path / "run", FakeBench())
    for path in (tmp_path / "run").glob("study.db*"):
        path.unlink()
    (tmp_path / "run" / "study.db").write_bytes(b"not a database, but a few bytes" * 100)
    with pytest.raises(InputError, match=r"cannot read or write study\.db"):
        run_search(None, tmp_path / "run", FakeBench(), resume=True)


def test_a_drawn_seed_is_stored_and_repeats_the_search(tmp_path: Path) -> None:
    first = run_search(toy_config(seed=None, trials=6), tmp_path / "first", FakeBench())
    again = run_search(toy_config(seed=first.seed, trials=6), tmp_path / "again", FakeBench())
    assert again == first
    assert RunDirectory(tmp_path / "first").read()["seed"] == first.seed
