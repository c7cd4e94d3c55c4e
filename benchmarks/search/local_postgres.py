"""A PostgreSQL server of one's own: in a temporary folder, on a free port of this machine, gone with the block."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "lanefit"
ACCOUNTS = ("postgres", "nobody")  # who runs the server when we are root, as whom it refuses to run
DEBIAN = Path("/usr/lib/postgresql")  # servers are not on the search path there


def find_initdb() -> Path | None:
    """The program that makes a server's files, of the newest version; its folder holds the others."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve()
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1] if versions else None


@contextmanager
def local_postgres() -> Iterator[str]:
    """The address of an empty database, with a password, that nobody else knows.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
        RuntimeError: the server cannot be made or started; with its own words.
    """
    initdb = find_initdb()
    if initdb is None:
        raise FileNotFoundError("initdb was not found: install postgresql")
    folder, account, password = Path(tempfile.mkdtemp(prefix="lanefit-pg-")), _account(), secrets.token_hex(16)
    try:
        (folder / "password").write_text(password, encoding="ascii")
        if account is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, account)
        yield from _served(initdb, folder, account, password)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _served(initdb: Path, folder: Path, account: str | None, password: str) -> Iterator[str]:
    data, port = folder / "data", _free_port()
    login = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={folder / 'password'}"]
    _call(folder, account, initdb, "-D", data, "--encoding=UTF8", "--locale=C", *login)
    control, settings = initdb.with_name("pg_ctl"), f"-p {port} -h 127.0.0.1 -k {folder}"
    _call(folder, account, control, "-D", data, "-l", folder / "log", "-o", settings, "-w", "start")
    try:
        yield f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"
    finally:
        _call(folder, account, control, "-D", data, "-m", "immediate", "-w", "stop")


def _call(folder: Path, account: str | None, *words: object) -> None:
    with open(folder / "said", "w+", encoding="utf-8") as said:  # a pipe would stay open in the server
        command = [str(word) for word in words]
        ended = subprocess.run(command, cwd=folder, user=account, stdout=said, stderr=said, check=False)
        said.seek(0)
        if ended.returncode:
            raise RuntimeError(f"{command[0]} ended with {ended.returncode}: {said.read().strip()}")


def _account() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    found = next((name for name in ACCOUNTS if name in known), None)
    if found is None:
        raise RuntimeError(f"PostgreSQL does not run as root, and there is none of {', '.join(ACCOUNTS)}")
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
