"""Live measurements in one SQLite file: resumable after a kill, exportable as CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ...common.errors import EstimatorError
from ...common.files import canonical_json, write_atomic
from ..sqlite_file import SqliteFile
from .operator_costs import Sum, sum_from_dict
from .protocol import Measured

APPLICATION_ID = 0x4C46494C  # "LFIL" in the SQLite header marks the file as ours
SCHEMA_VERSION = 1
Subject: TypeAlias = Literal["subgraph", "network"]
_COLUMNS = (
    "digest", "device", "toolchain", "subject", "name", "latency_us", "certain", "samples_us", "raw_us", "slowdown",
    "state", "measured_at", "definition",
)  # fmt: skip
_SCHEMA = f"""
CREATE TABLE live (
    {", ".join(f"{name} {'REAL' if name == 'latency_us' else 'TEXT'} NOT NULL" for name in _COLUMNS)},
    PRIMARY KEY (digest, device, toolchain, subject, name)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class LiveMeasurement:
    """`definition` is what ran, as the sum of its operators; `state` the device's state before it was measured."""

    subject: Subject
    name: str
    device: str
    toolchain: str
    definition: Sum
    measured: Measured
    state: Mapping[str, str | float] = field(default_factory=dict)
    measured_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


class LiveStore(SqliteFile):
    """An open store; several processes may write into it.

    Raises:
        EstimatorError: the file is damaged, not a store of live measurements, or of another schema version.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA, APPLICATION_ID, SCHEMA_VERSION, "store of live measurements")

    def add(self, measurements: Iterable[LiveMeasurement]) -> None:
        """Stores measurements in one transaction; of several with one key the first one stays."""
        self.insert("live", [_row(measurement) for measurement in measurements], len(_COLUMNS))

    def all(
        self, *, device: str | None = None, toolchain: str | None = None, subject: Subject | None = None
    ) -> list[LiveMeasurement]:
        """In the order in which they were measured, optionally of one device, toolchain and subject."""
        chosen = {"device": device, "toolchain": toolchain, "subject": subject}
        given = {name: value for name, value in chosen.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in given) or "1"
        query = f"SELECT {', '.join(_COLUMNS)} FROM live WHERE {where} ORDER BY measured_at, digest, name"
        return [_measurement(row) for row in self.select(query, tuple(given.values()))]

    def export_csv(self, path: Path) -> None:
        """All rows as CSV with a header; lists and definitions as JSON texts."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dict(zip(_COLUMNS, row, strict=True)) for row in self._rows())
        write_atomic(path, text.getvalue().encode())

    def export_parquet(self, path: Path) -> None:
        """All rows as Parquet, in the columns of the CSV. Needs pyarrow; raises `EstimatorError` without it."""
        try:
            import pyarrow  # pyright: ignore[reportMissingImports]
            import pyarrow.parquet  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            hint = "pip install pyarrow, or export CSV"
            raise EstimatorError("Parquet needs the package pyarrow, which is not installed", hint=hint) from error
        columns = list(zip(*self._rows(), strict=True)) or [()] * len(_COLUMNS)
        table = pyarrow.table({name: list(values) for name, values in zip(_COLUMNS, columns, strict=True)})
        sink = io.BytesIO()
        pyarrow.parquet.write_table(table, sink)
        write_atomic(path, sink.getvalue())

    def __len__(self) -> int:
        return int(self.select("SELECT count(*) FROM live")[0][0])

    def _rows(self) -> list[tuple[Any, ...]]:
        return [_row(measurement) for measurement in self.all()]


def _row(item: LiveMeasurement) -> tuple[Any, ...]:
    measured = item.measured
    return (
        item.definition.digest,
        item.device,
        item.toolchain,
        item.subject,
        item.name,
        measured.latency_us,
        "yes" if measured.certain else "no",
        canonical_json(measured.samples_us),
        canonical_json(measured.raw_us),
        canonical_json(measured.slowdown),
        canonical_json(dict(item.state)),
        item.measured_at,
        canonical_json(item.definition.as_dict()),
    )


def _measurement(row: tuple[Any, ...]) -> LiveMeasurement:
    cells = dict(zip(_COLUMNS, row, strict=True))
    try:
        samples, raw, slowdown, state = (json.loads(cells[n]) for n in ("samples_us", "raw_us", "slowdown", "state"))
        measured = Measured(tuple(samples), tuple(map(tuple, raw)), tuple(slowdown), cells["certain"] == "yes")
        definition = sum_from_dict(json.loads(cells["definition"]))
    except (ValueError, TypeError) as error:
        raise EstimatorError(f"a stored measurement is damaged: {error}", hint="measure into a new file") from error
    return LiveMeasurement(
        cells["subject"], cells["name"], cells["device"], cells["toolchain"], definition, measured, state,
        cells["measured_at"],
    )  # fmt: skip
