"""Where the trials of studies are kept: a SQLite file, a journal file, PostgreSQL, or another machine through gRPC.

runs/first/study.db, sqlite:///FILE   one file; several processes of one machine may share it
journal:///FILE                       one file of appended lines, also on a network file system
postgresql://USER@HOST/DATABASE       many machines; password from PGPASSWORD, ~/.pgpass or the address
grpc://HOST:PORT                      many machines; `lanefit serve` holds a SQLite file or PostgreSQL there
memory:                               nothing is kept: for benchmarks
"""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from ..common.errors import ConfigError, InputError, UnknownNameError

MEMORY = "memory:"
DEFAULT_PORT = 13000
_LOCK_SECONDS = 60  # how long a process waits for the writer of a SQLite file
_READY_SECONDS = 30  # how long a gRPC server may take to answer for the first time
_MAKE_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Place:
    """The address of a storage. `shown` is without password: what messages, run files and processes' titles hold."""

    url: str

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0]

    @property
    def shown(self) -> str:
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url
        return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@")))

    @property
    def file(self) -> Path | None:
        """The file of a storage that is one."""
        return Path(self.url.partition("://")[2][1:]) if self.scheme in ("sqlite", "journal") else None

    @property
    def name(self) -> str:
        return self.file.name if self.file else self.shown


def parse_place(given: str | Path, *, where: str = "--storage") -> Place:
    """The storage at an address or in a SQLite file.

    Raises:
        ConfigError: malformed address.
        UnknownNameError: a kind of storage that there is not.
    """
    if isinstance(given, Path):
        return Place(f"sqlite:///{given}")
    scheme, colon, rest = given.partition(":")
    scheme = {"postgres": "postgresql"}.get(scheme.split("+")[0], scheme.split("+")[0])
    if given == MEMORY:
        return Place(MEMORY)
    hint = "write sqlite:///FILE, journal:///FILE, postgresql://USER@HOST/DATABASE or grpc://HOST:PORT"
    if not colon or not rest.startswith("//") or len(rest) < 4:
        raise ConfigError(f"{given!r} is not the address of a storage", where=where, hint=hint)
    if scheme not in _OPEN:
        raise UnknownNameError("kind of storage", scheme, _OPEN, where=where)
    place = Place(f"{scheme}:{rest}")
    if scheme == "grpc":
        _host_and_port(place, where)
    return place


@contextmanager
def open_storage(place: Place) -> Iterator[BaseStorage]:
    """The storage at `place`, its tables made when absent; closed with the block.

    Raises:
        ConfigError: a package that this kind of storage needs is not installed.
        InputError: it cannot be reached, read or written.
    """
    with storage_errors(place):
        storage = _OPEN[place.scheme](place)
    try:
        yield storage
    finally:
        _close(storage)


@contextmanager
def storage_errors(place: Place) -> Iterator[None]:
    """Whatever a storage raises, as one `InputError` that names it."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, sqlite3.Error, OSError, *_grpc_errors()) as error:
        cause = error.__cause__ or error
        lines = str(cause).splitlines() or [type(cause).__name__]
        local = place.file is not None
        hint = "free some space and resume; every finished trial is kept" if local else "is its server running?"
        problem = f"cannot read or write {place.name}: {lines[0]}"
        raise InputError(problem, where=str(place.file or place.shown), hint=hint) from error


def _open_sqlite(place: Place) -> BaseStorage:
    assert place.file is not None
    if not place.file.parent.is_dir():
        raise ConfigError(f"there is no folder {place.file.parent}", where=str(place.file), hint="make it first")
    made = _patiently(lambda: RDBStorage(place.url, engine_kwargs={"connect_args": {"timeout": _LOCK_SECONDS}}))
    event.listen(made.engine, "connect", _configure_sqlite)
    event.listen(made.engine, "begin", _begin_immediately)
    made.engine.dispose()  # connections made so far are without it
    return made


def _configure_sqlite(connection: sqlite3.Connection, _: object) -> None:
    """A write-ahead log halves the time per trial; a kill loses nothing, a power cut at most the last trial."""
    connection.isolation_level = None  # transactions begin where SQLAlchemy says so, below
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_immediately(connection: Connection) -> None:
    """A transaction that reads a trial's state and then changes it is alone from its first statement on. SQLite has no
    SELECT FOR UPDATE, on which Optuna relies elsewhere: two workers would take the same waiting trial."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_postgresql(place: Place) -> BaseStorage:
    _needs("psycopg", "postgres", place)
    url = "postgresql+psycopg" + place.url.removeprefix("postgresql")
    return _patiently(lambda: RDBStorage(url, engine_kwargs={"pool_pre_ping": True}))


def _open_grpc(place: Place) -> BaseStorage:
    _needs("grpc", "grpc", place)
    host, port = _host_and_port(place, "--storage")
    with warnings.catch_warnings():  # experimental in Optuna 5, which the user chose by address
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=host, port=port)
    proxy.wait_server_ready(timeout=_READY_SECONDS)
    return proxy


def _open_journal(place: Place) -> BaseStorage:
    return JournalStorage(JournalFileBackend(str(place.file)))


_OPEN: dict[str, Callable[[Place], BaseStorage]] = {
    "sqlite": _open_sqlite,
    "journal": _open_journal,
    "postgresql": _open_postgresql,
    "grpc": _open_grpc,
    "memory": lambda _: InMemoryStorage(),
}


def _close(storage: BaseStorage) -> None:
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()
    elif isinstance(storage, GrpcStorageProxy):
        storage.close()


def _patiently(make: Callable[[], RDBStorage]) -> RDBStorage:
    """Two processes that make the tables of one database at once collide; the second attempt finds them made."""
    for attempt in range(1, _MAKE_ATTEMPTS):
        try:
            return make()
        except (OperationalError, ProgrammingError, IntegrityError) as error:
            if "already exists" not in str(error) and "duplicate key" not in str(error):
                raise
            time.sleep(0.2 * attempt)
    return make()


def _host_and_port(place: Place, where: str) -> tuple[str, int]:
    try:
        parts = urlsplit(place.url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError as error:
        raise ConfigError(f"{place.url!r}: {error}", where=where, hint="write grpc://HOST:PORT") from error
    if not host:
        raise ConfigError(f"{place.url!r} names no host", where=where, hint="write grpc://HOST:PORT")
    return host, port


def _needs(package: str, extra: str, place: Place) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"{place.scheme} needs {package}, which is not installed",
            where=place.shown,
            hint=f"pip install 'lanefit[{extra}]'",
        )


def _grpc_errors() -> tuple[type[Exception], ...]:
    """What gRPC raises, once something has imported it."""
    grpc = sys.modules.get("grpc")
    return (grpc.RpcError,) if grpc is not None else ()
