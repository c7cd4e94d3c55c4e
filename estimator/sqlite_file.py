"""One SQLite file of ours: many writers, crash-safe, refused when it is another program's or another schema's."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from ..common.errors import EstimatorError

_BUSY_SECONDS = 60.0


class SqliteFile:
    """An open file with one table. Each `insert` is one transaction, so an interrupted run keeps what it has.

    Args:
        path: created with its folders when absent.
        schema: the statement that creates the table.
        application_id: marks the file as ours in SQLite's header.
        version: of the schema.
        purpose: what the file is, for messages ("measurement store").

    Raises:
        EstimatorError: the file is damaged, another program's, or of another schema version.
    """

    def __init__(self, path: Path, schema: str, application_id: int, version: int, purpose: str) -> None:
        self.path, self._purpose = path, purpose
        with self._guard():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._open(schema, application_id, version)
            except BaseException:
                self._connection.close()
                raise

    def insert(self, table: str, rows: Iterable[Sequence[Any]], columns: int) -> None:
        """Inserts rows in one transaction; of several with one key the first one stays."""
        marks = ", ".join("?" * columns)
        with self._guard(), self._transaction():
            self._connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)

    def select(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._guard():
            return list(self._connection.execute(query, values))

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, schema: str, application_id: int, version: int) -> None:
        """Creates the schema in an empty file, or checks that an existing one is ours."""
        with self._transaction():
            if not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._connection.execute(schema)
                self._connection.execute(f"PRAGMA application_id = {application_id}")
                self._connection.execute(f"PRAGMA user_version = {version}")
        if self._pragma("application_id") != application_id:
            raise EstimatorError(
                f"{self.path.name} is a database of another program", where=str(self.path), hint="choose another file"
            )
        if (found := self._pragma("user_version")) != version:
            raise EstimatorError(
                f"{self.path.name} has schema version {found}, this lanefit reads version {version}",
                where=str(self.path),
                hint="measure into a new file",
            )
        if self._connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            self._patiently("PRAGMA journal_mode = WAL")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

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
                f"{self.path.name} cannot be used as a {self._purpose}: {error}",
                where=str(self.path),
                hint="restore the file, or choose another one and measure again",
            ) from error
