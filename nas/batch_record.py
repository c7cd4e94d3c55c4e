"""Many trials at once into the record that Optuna keeps.

Optuna writes a trial in dozens of transactions and reads a study by building every trial as objects: with 100,000
trials hours, gigabytes and minutes. Into a database, a batch goes here as rows, in one transaction: all of it is there
after a kill, or none. What is read back for a search is one attribute per trial. Other storages take trial by trial.
Optuna and its dashboard see trials like any others (`tests/nas/test_batch_record.py` compares the two ways).
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import Connection, MetaData, Table, func, insert, select

RECORD = "record"
DONE = (TrialState.COMPLETE, TrialState.PRUNED)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finished:
    """A trial that is over. `params` are in the order in which they were drawn, `constraints` zero or less if kept."""

    params: Mapping[str, Any]
    values: Sequence[float]
    user_attrs: Mapping[str, Any]
    constraints: Mapping[str, float] = field(default_factory=dict)


class TrialWriter(Protocol):
    """Writes to one study."""

    def add(self, trials: Sequence[Finished], distributions: Mapping[str, BaseDistribution]) -> None:
        """Appends complete trials, numbered on."""
        ...

    def annotate(self, trial_id: int, user_attrs: Mapping[str, Any], constraints: Mapping[str, float]) -> None:
        """Sets attributes of a running trial; `UpdateFinishedTrialError` when it is no longer running."""
        ...

    def records(self, known: Collection[int]) -> dict[int, Any]:
        """The attribute `record` of finished trials by their numbers, ascending, but for the `known` ones.

        None where a trial has no such attribute.
        """
        ...

    def running(self) -> list[int]:
        """Numbers of the trials that are at work, or were when their process died."""
        ...


def trial_writer(storage: BaseStorage, backend: BaseStorage, study_id: int) -> TrialWriter:
    """The fastest way into `storage`, which may be a cache around `backend`."""
    if isinstance(backend, RDBStorage):
        return DatabaseWriter(backend, study_id)
    return PlainWriter(storage, study_id)


class PlainWriter:
    """Trial by trial, for storages that know nothing else."""

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        self._storage, self._study_id = storage, study_id

    def add(self, trials: Sequence[Finished], distributions: Mapping[str, BaseDistribution]) -> None:
        for trial in trials:
            frozen = create_trial(
                state=TrialState.COMPLETE,
                values=list(trial.values),
                params=dict(trial.params),
                distributions={name: distributions[name] for name in trial.params},
                user_attrs=dict(trial.user_attrs),
                constraints=dict(trial.constraints),
            )
            self._storage.create_new_trial(self._study_id, frozen)

    def annotate(self, trial_id: int, user_attrs: Mapping[str, Any], constraints: Mapping[str, float]) -> None:
        for key, value in user_attrs.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        for key, value in _constraint_attributes(constraints).items():
            self._storage.set_trial_system_attr(trial_id, key, value)

    def records(self, known: Collection[int]) -> dict[int, Any]:
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False, states=DONE)
        return {trial.number: trial.user_attrs.get(RECORD) for trial in trials if trial.number not in known}

    def running(self) -> list[int]:
        running = (TrialState.RUNNING,)
        return [t.number for t in self._storage.get_all_trials(self._study_id, deepcopy=False, states=running)]


class DatabaseWriter:
    """Rows of Optuna's tables."""

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self._engine, self._study_id = storage.engine, study_id
        tables = MetaData()
        names = ("trials", "trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes")
        tables.reflect(self._engine, only=[*names, "studies"])
        self._studies, self._trials = tables.tables["studies"], tables.tables["trials"]
        self._params, self._values, self._user, self._system = (tables.tables[name] for name in names[1:])
        self._known: dict[tuple[str, Any], tuple[float, str]] = {}

    def add(self, trials: Sequence[Finished], distributions: Mapping[str, BaseDistribution]) -> None:
        with self._engine.begin() as connection:
            ids = self._insert_trials(connection, len(trials))
            numbered = list(zip(ids, trials, strict=True))
            _insert(connection, self._params, [r for i, t in numbered for r in self._param_rows(i, t, distributions)])
            _insert(connection, self._values, [r for i, t in numbered for r in _value_rows(i, t.values)])
            _insert(connection, self._user, [r for i, t in numbered for r in _attribute_rows(i, t.user_attrs)])
            system = [(i, _constraint_attributes(t.constraints)) for i, t in numbered]
            _insert(connection, self._system, [r for i, found in system for r in _attribute_rows(i, found)])

    def annotate(self, trial_id: int, user_attrs: Mapping[str, Any], constraints: Mapping[str, float]) -> None:
        state = select(self._trials.c.state).where(self._trials.c.trial_id == trial_id).with_for_update()
        with self._engine.begin() as connection:
            if connection.execute(state).scalar_one() != TrialState.RUNNING.name:
                raise UpdateFinishedTrialError(f"trial {trial_id} is no longer running")
            _insert(connection, self._user, _attribute_rows(trial_id, user_attrs))
            _insert(connection, self._system, _attribute_rows(trial_id, _constraint_attributes(constraints)))

    def records(self, known: Collection[int]) -> dict[int, Any]:
        number = self._trials.c.number
        over = (self._trials.c.study_id == self._study_id) & self._trials.c.state.in_([state.name for state in DONE])
        held = (self._user.c.trial_id == self._trials.c.trial_id) & (self._user.c.key == RECORD)
        with self._engine.connect() as connection:
            new = set(connection.execute(select(number).where(over)).scalars()).difference(known)
            if not new:
                return {}
            found = select(number, self._user.c.value_json).select_from(self._trials.outerjoin(self._user, held))
            rows = connection.execute(found.where(over, number >= min(new)).order_by(number))
            return {row[0]: None if row[1] is None else json.loads(row[1]) for row in rows if row[0] in new}

    def running(self) -> list[int]:
        mine = (self._trials.c.study_id == self._study_id) & (self._trials.c.state == TrialState.RUNNING.name)
        with self._engine.connect() as connection:
            return list(connection.execute(select(self._trials.c.number).where(mine)).scalars())

    def _insert_trials(self, connection: Connection, count: int) -> Sequence[int]:
        """Row numbers of new complete trials. The study's row is locked, since numbers follow from a count."""
        study = select(self._studies.c.study_id).where(self._studies.c.study_id == self._study_id).with_for_update()
        connection.execute(study)
        mine = self._trials.c.study_id == self._study_id
        first = connection.execute(select(func.count()).select_from(self._trials).where(mine)).scalar_one()
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)  # Optuna stores UTC without saying so
        shared = {
            "study_id": self._study_id,
            "state": TrialState.COMPLETE.name,
            "datetime_start": now,
            "datetime_complete": now,
        }
        rows = [{**shared, "number": first + number} for number in range(count)]
        statement = insert(self._trials).returning(self._trials.c.trial_id, sort_by_parameter_order=True)
        return connection.execute(statement, rows).scalars().all()

    def _param_rows(self, trial_id: int, trial: Finished, distributions: Mapping[str, BaseDistribution]) -> list[Row]:
        rows = []
        for name, value in trial.params.items():
            key = (name, value)
            if key not in self._known:
                distribution = distributions[name]
                self._known[key] = (distribution.to_internal_repr(value), distribution_to_json(distribution))
            internal, text = self._known[key]
            rows.append({"trial_id": trial_id, "param_name": name, "param_value": internal, "distribution_json": text})
        return rows


def _insert(connection: Connection, table: Table, rows: list[Row]) -> None:
    if rows:
        connection.execute(table.insert(), rows)


def _value_rows(trial_id: int, values: Sequence[float]) -> list[Row]:
    rows: list[Row] = []
    for objective, value in enumerate(values):
        kind = "FINITE" if math.isfinite(value) else "INF_POS" if value > 0 else "INF_NEG"
        stored = value if kind == "FINITE" else None
        rows.append({"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind})
    return rows


def _attribute_rows(trial_id: int, attributes: Mapping[str, Any]) -> list[Row]:
    return [{"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def _constraint_attributes(constraints: Mapping[str, float]) -> Mapping[str, Any]:
    """Constraints under the names that Optuna gives them."""
    return create_trial(state=TrialState.RUNNING, constraints=dict(constraints)).system_attrs if constraints else {}
