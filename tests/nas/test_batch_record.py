"""A batch that goes into the database as rows is what Optuna would have written."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage, get_storage
from optuna.trial import FrozenTrial, TrialState

from lanefit.nas.batch_record import RECORD, DatabaseWriter, Finished, PlainWriter, trial_writer
from lanefit.nas.storage import open_storage, parse_place

DISTRIBUTIONS = {
    "kernel": IntDistribution(1, 5, step=2),
    "block": CategoricalDistribution(["conv", "separable"]),
    "width": CategoricalDistribution([0.5, 1.0]),
}
TRIALS = [
    Finished({"kernel": 3, "block": "conv"}, (1.5, float("inf")), {RECORD: {"index": 0}}, {"latency": -0.25}),
    Finished({"width": 1.0}, (float("-inf"), 2.0), {RECORD: {"index": 1}, "note": "a"}, {"latency": 1, "sram": 0.0}),
]


def _study(path: Path) -> tuple[RDBStorage, optuna.Study]:
    storage = RDBStorage(f"sqlite:///{path}")
    return storage, optuna.create_study(storage=storage, study_name="s", directions=["maximize", "minimize"])


def _content(trial: FrozenTrial) -> tuple[object, ...]:
    return (
        trial.number, trial.state, trial.values, trial.params, trial.distributions, trial.user_attrs,
        trial.system_attrs, trial.constraints, trial.intermediate_values,
    )  # fmt: skip


def test_rows_and_optuna_store_the_same_trials(tmp_path: Path) -> None:
    found: list[list[FrozenTrial]] = []
    for name in ("rows", "plain"):
        storage, study = _study(tmp_path / f"{name}.db")
        study.add_trial(optuna.create_trial(state=TrialState.FAIL))
        writer = DatabaseWriter(storage, 1) if name == "rows" else PlainWriter(get_storage(storage), 1)
        writer.add(TRIALS, DISTRIBUTIONS)
        found.append(study.get_trials())
    rows, plain = found
    assert [_content(trial) for trial in rows] == [_content(trial) for trial in plain]
    for one, other in zip(rows[1:], plain[1:], strict=True):
        assert one.datetime_complete is not None
        assert other.datetime_complete is not None
        assert abs((one.datetime_complete - other.datetime_complete).total_seconds()) < 3600


@pytest.mark.parametrize("writer", [DatabaseWriter, PlainWriter])
def test_records_are_read_in_order_but_for_the_known_ones(
    tmp_path: Path, writer: type[DatabaseWriter | PlainWriter]
) -> None:
    storage, study = _study(tmp_path / "study.db")
    found = writer(storage, 1)
    found.add(TRIALS, DISTRIBUTIONS)
    study.ask()
    assert found.records(()) == {0: {"index": 0}, 1: {"index": 1}}
    assert found.records({0}) == {1: {"index": 1}}
    assert found.records({0, 1}) == {}


@pytest.mark.parametrize("writer", [DatabaseWriter, PlainWriter])
def test_a_trial_that_another_worker_was_given_takes_no_more_notes(
    tmp_path: Path, writer: type[DatabaseWriter | PlainWriter]
) -> None:
    storage, study = _study(tmp_path / "study.db")
    trial = study.ask()
    writer(storage, 1).annotate(trial._trial_id, {"note": "a"}, {"latency": 0.5})
    assert study.trials[0].user_attrs == {"note": "a"}
    assert study.trials[0].constraints == {"latency": 0.5}
    study.tell(trial, state=TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        writer(storage, 1).annotate(trial._trial_id, {"late": 1}, {})


def test_a_batch_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    place = parse_place(tmp_path / "study.db")
    with open_storage(place) as storage:
        study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
        broken = [*TRIALS, Finished({}, (0.0, 0.0), {RECORD: object()})]
        with pytest.raises(TypeError, match="not JSON serializable"):
            trial_writer(storage, storage, 1).add(broken, DISTRIBUTIONS)
        assert study.get_trials() == []
