"""Measurements in one SQLite file: many writers, one row per key, resumable, exportable as CSV."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..common.errors import EstimatorError
from ..common.files import canonical_json, write_atomic
from .measurement import Measurement, MeasurementKey, Workload, workload_from_dict

APPLICATION_ID = 0x4C464954  # "LFIT" in the SQLite header marks the file as ours
SCHEMA_VERSION = 1
_BUSY_SECONDS = 60.0
_COLUMNS = ("workload", "target", "toolchain", "kind", "definition", "unit", "samples", "phases", "device")
_SCHEMA = f"""
CREATE TABLE measurement (
    {", ".join(f"{name} TEXT NOT NULL" for name in _COLUMNS)},
    PRIMARY KEY (workload, target, toolchain)
) WITHOUT ROWID
"""


class MeasurementStore:
    """An open store. Each `add` is one transaction, so an interrupted run keeps what it has measured.

    Raises:
        EstimatorError: the file is damaged, not a measurement store, or of another schema version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._guard():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._connection.close()
                raise

    def add(self, measurements: Iterable[Measurement]) -> None:
        """Stores measurements; of several with one key the first one stays."""
        rows = [_row(measurement) for measurement in measurements]
        marks = ", ".join("?" * len(_COLUMNS))
        with self._guard(), self._transaction():
            self._connection.executemany(f"INSERT OR IGNORE INTO measurement VALUES ({marks})", rows)

    def get(self, key: MeasurementKey) -> Measurement | None:
        where = "workload = ? AND target = ? AND toolchain = ?"
        found = self._select(where, (key.workload.digest(), key.target, key.toolchain))
        return next(iter(found), None)

    def all(self, *, target: str | None = None, toolchain: str | None = None) -> list[Measurement]:
        """Measurements in the order of their keys, optionally of one target and one toolchain."""
        chosen = [(n, v) for n, v in (("target", target), ("toolchain", toolchain)) if v is not None]
        return self._select(" AND ".join(f"{n} = ?" for n, _ in chosen) or "1", tuple(v for _, v in chosen))

    def missing(self, workloads: Iterable[Workload], target: str, toolchain: str) -> list[Workload]:
        """Those workloads that have no measurement yet, in the given order."""
        with self._guard():
            query = "SELECT workload FROM measurement WHERE target = ? AND toolchain = ?"
            known = {digest for (digest,) in self._connection.execute(query, (target, toolchain))}
        return [workload for workload in workloads if workload.digest() not in known]

    def export_csv(self, path: Path) -> None:
        """All rows as CSV with a header; samples, phases and device as JSON texts."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dict(zip(_COLUMNS, _row(m), strict=True)) for m in self.all())
        write_atomic(path, text.getvalue().encode())

    def close(self) -> None:
        self._connection.close()

    def __len__(self) -> int:
        with self._guard():
            return int(self._connection.execute("SELECT count(*) FROM measurement").fetchone()[0])

    def __enter__(self) -> MeasurementStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        """Creates the schema in an empty file, or checks that an existing one is ours."""
        with self._transaction():
            if not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._connection.execute(_SCHEMA)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if self._pragma("application_id") != APPLICATION_ID:
            raise EstimatorError(
                f"{self.path.name} is a database of another program", where=str(self.path), hint="choose another file"
            )
        if (version := self._pragma("user_version")) != SCHEMA_VERSION:
            raise EstimatorError(
                f"{self.path.name} has schema version {version}, this lanefit reads version {SCHEMA_VERSION}",
                where=str(self.path),
                hint="measure into a new file",
            )
        if self._connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            self._patiently("PRAGMA journal_mode = WAL")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _select(self, where: str, values: tuple[str, ...]) -> list[Measurement]:
        query = f"SELECT {', '.join(_COLUMNS)} FROM measurement WHERE {where} ORDER BY target, toolchain, workload"
        with self._guard():
            return [_measurement(row) for row in self._connection.execute(query, values)]

    def _patiently(self, statement: str) -> None:
        """Executes, waiting for other writers also where SQLite's own time-out does not (a change of journal mode)."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._connection.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._patiently("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except EstimatorError:
            raise
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise EstimatorError(
                f"{self.path.name} cannot be used as a measurement store: {error}",
                where=str(self.path),
                hint="restore the file, or choose another one and measure again",
            ) from error


def _row(measurement: Measurement) -> tuple[str, ...]:
    key = measurement.key
    return (
        key.workload.digest(),
        key.target,
        key.toolchain,
        str(key.workload.subgraph.kind),
        canonical_json(key.workload.as_dict()),
        measurement.unit,
        canonical_json(measurement.samples),
        canonical_json(dict(measurement.phases)),
        canonical_json(dict(measurement.device)),
    )


def _measurement(row: tuple[Any, ...]) -> Measurement:
    _, target, toolchain, _, definition, unit, samples, phases, device = row
    key = MeasurementKey(workload_from_dict(json.loads(definition)), target, toolchain)
    return Measurement(key, unit, tuple(json.loads(samples)), json.loads(phases), json.loads(device))
