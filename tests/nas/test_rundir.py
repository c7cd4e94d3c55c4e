from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nas_fakes import FakeBench, toy_config

from lanefit.common.errors import ConfigError, InputError
from lanefit.nas.config import load_config
from lanefit.nas.proxies.conformance import small_network
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.search import run_search
from lanefit.nas.weights import load_weights, read_weights, save_weights, state_arrays


def test_a_run_file_says_how_and_where_the_result_was_made(tmp_path: Path) -> None:
    facts = {"target": "abc"}
    result = run_search(toy_config(trials=4), tmp_path / "run", FakeBench(), command=["lanefit", "search"], facts=facts)
    run = RunDirectory(tmp_path / "run")
    values = run.read()
    assert (values["schema_version"], values["status"], values["seed"]) == (1, "done", 7)
    assert values["command"] == ["lanefit", "search"]
    assert values["facts"] == facts
    assert {"lanefit", "torch", "optuna", "numpy"} <= set(values["versions"])
    assert {"python", "system", "processor", "cores", "load_1min"} <= set(values["environment"])
    assert values["started"] <= values["finished"]
    assert load_config(run.config_file) == toy_config(trials=4)
    assert run.result() == result


def test_a_failed_search_stores_its_error(tmp_path: Path) -> None:
    class Broken(FakeBench):
        def score(self, architecture: object, seed: int) -> dict[str, float]:
            raise InputError("the data set is gone", hint="mount it")

    with pytest.raises(InputError, match="the data set is gone"):
        run_search(toy_config(), tmp_path / "run", Broken())
    values = RunDirectory(tmp_path / "run").read()
    assert values["status"] == "failed"
    assert values["error"]["hint"] == "mount it"
    assert run_search(None, tmp_path / "run", FakeBench(), resume=True).winner is not None


def test_results_are_refused_while_there_are_none(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.start(toy_config(), [], {})
    with pytest.raises(InputError, match="is running and has no results yet"):
        run.result()


@pytest.mark.parametrize("change", [{"schema_version": 99}, {"results": {"budget": {}}}])
def test_a_foreign_or_incomplete_run_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    run = RunDirectory(tmp_path)
    run.start(toy_config(), [], {})
    run.record.write_text(json.dumps({**run.read(), **change}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"schema version 99|run\.json is incomplete"):
        run.result()


def test_a_directory_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write to run"):
        run_search(toy_config(), tmp_path / "file" / "run", FakeBench())


def test_weights_come_back_as_they_were_and_equal_weights_give_equal_files(tmp_path: Path) -> None:
    module, other = small_network(seed=1), small_network(seed=2)
    for name in ("a.npz", "b.npz"):
        save_weights(tmp_path / name, state_arrays(module))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    load_weights(other, tmp_path / "a.npz")
    for name, array in state_arrays(module).items():
        assert np.array_equal(array, state_arrays(other)[name])


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.npz", state_arrays(small_network(width=8)))
    with pytest.raises(InputError, match="another architecture"):
        load_weights(small_network(width=12), tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"plain text"])
def test_damaged_weights_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match="does not hold weights"):
        read_weights(tmp_path / "a.npz")


def test_weights_that_would_need_unpickling_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.array([object()], dtype=object))
    with pytest.raises(InputError, match="does not hold weights"):
        read_weights(tmp_path / "a.npz")
