"""Measurements in one SQLite file: many writers, one row per key, resumable, exportable as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..common.files import canonical_json, write_atomic
from .measurement import Measurement, MeasurementKey, Workload, workload_from_dict
from .sqlite_file import SqliteFile

APPLICATION_ID = 0x4C464954  # "LFIT" in the SQLite header marks the file as ours
SCHEMA_VERSION = 1
_COLUMNS = ("workload", "target", "toolchain", "kind", "definition", "unit", "samples", "phases", "device")
_SCHEMA = f"""
CREATE TABLE measurement (
    {", ".join(f"{name} TEXT NOT NULL" for name in _COLUMNS)},
    PRIMARY KEY (workload, target, toolchain)
) WITHOUT ROWID
"""


class MeasurementStore(SqliteFile):
    """An open store. Each `add` is one transaction, so an interrupted run keeps what it has measured.

    Raises:
        EstimatorError: the file is damaged, not a measurement store, or of another schema version.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA, APPLICATION_ID, SCHEMA_VERSION, "measurement store")

    def add(self, measurements: Iterable[Measurement]) -> None:
        """Stores measurements; of several with one key the first one stays."""
        self.insert("measurement", [_row(measurement) for measurement in measurements], len(_COLUMNS))

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
        query = "SELECT workload FROM measurement WHERE target = ? AND toolchain = ?"
        known = {digest for (digest,) in self.select(query, (target, toolchain))}
        return [workload for workload in workloads if workload.digest() not in known]

    def export_csv(self, path: Path) -> None:
        """All rows as CSV with a header; samples, phases and device as JSON texts."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dict(zip(_COLUMNS, _row(m), strict=True)) for m in self.all())
        write_atomic(path, text.getvalue().encode())

    def __len__(self) -> int:
        return int(self.select("SELECT count(*) FROM measurement")[0][0])

    def _select(self, where: str, values: tuple[str, ...]) -> list[Measurement]:
        query = f"SELECT {', '.join(_COLUMNS)} FROM measurement WHERE {where} ORDER BY target, toolchain, workload"
        with self._guard():
            return [_measurement(row) for row in self.select(query, values)]


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
