"""What a study holds is what a person sees in Optuna's dashboard."""

from __future__ import annotations

import importlib.util
import json
from io import BytesIO
from typing import Any

import optuna
import pytest
from nas_fakes import FakeBench, toy_config

from lanefit.nas.search import run_search


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("run")
    run_search(toy_config(), directory, FakeBench())
    return f"sqlite:///{directory}/study.db"


def test_optuna_shows_architecture_costs_and_verdict_of_every_trial(database: str) -> None:
    trials = optuna.load_study(study_name="search", storage=database).trials
    assert len(trials) == 16
    for trial in trials:
        notes = trial.user_attrs
        assert json.loads(notes["architecture"])["family"] == "toy"
        assert {"latency_us", "sram_bytes", "weight_bytes", "macs", "verdict", "feasible"} <= set(notes)


@pytest.mark.skipif(importlib.util.find_spec("optuna_dashboard") is None, reason="optuna-dashboard is not installed")
@pytest.mark.filterwarnings("ignore")
def test_the_dashboard_serves_the_study(database: str) -> None:
    from optuna_dashboard import wsgi

    answered: list[str] = []
    request: dict[str, Any] = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "QUERY_STRING": "", "SERVER_NAME": "here",
        "SERVER_PORT": "80", "wsgi.input": BytesIO(), "wsgi.url_scheme": "http",
    }  # fmt: skip
    body = b"".join(wsgi(database)(request, lambda status, headers, *_: answered.append(status)))
    assert answered == ["200 OK"]
    assert [study["study_name"] for study in json.loads(body)["study_summaries"]] == ["search"]
