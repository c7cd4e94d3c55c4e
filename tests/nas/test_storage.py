from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from lanefit.common.errors import ConfigError, InputError, UnknownNameError
from lanefit.nas.storage import open_storage, parse_place


@pytest.mark.parametrize(
    ("given", "url", "shown"),
    [
        ("sqlite:///runs/a.db", "sqlite:///runs/a.db", "sqlite:///runs/a.db"),
        ("postgres://me@host/studies", "postgresql://me@host/studies", "postgresql://me@host/studies"),
        ("postgresql+psycopg2://me:x@h/s", "postgresql://me:x@h/s", "postgresql://me@h/s"),
        ("grpc://host:99", "grpc://host:99", "grpc://host:99"),
        ("journal:////data/log", "journal:////data/log", "journal:////data/log"),
    ],
)
def test_an_address_is_understood_and_shown_without_its_password(given: str, url: str, shown: str) -> None:
    place = parse_place(given)
    assert (place.url, place.shown) == (url, shown)


@pytest.mark.parametrize("given", ["runs/a.db", "sqlite:a.db", "grpc://", "grpc://:5", "grpc://host:many"])
def test_a_malformed_address_is_refused_with_the_forms_that_work(given: str) -> None:
    with pytest.raises(ConfigError, match=r"grpc://HOST:PORT"):
        parse_place(given)


def test_an_unknown_kind_of_storage_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown kind of storage 'redis'"):
        parse_place("redis://host/0")


def test_a_file_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"), open_storage(parse_place(tmp_path / "a" / "b.db")):
        pass


def test_a_server_that_does_not_answer_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc", reason="gRPC is not installed")
    monkeypatch.setattr("lanefit.nas.storage._READY_SECONDS", 0.2)
    with (
        pytest.raises(InputError, match="is its server running"),
        open_storage(parse_place("grpc://127.0.0.1:1")),
    ):
        pass


def test_two_connections_never_take_the_same_waiting_trial(tmp_path: Path) -> None:
    place = parse_place(tmp_path / "study.db")
    with open_storage(place) as one, open_storage(place) as other:
        study = optuna.create_study(storage=one)
        study.enqueue_trial({"x": 1})
        waiting = study.trials[0]._trial_id
        taken = [storage.set_trial_state_values(waiting, TrialState.RUNNING) for storage in (one, other)]
    assert taken == [True, False]
