"""Files that are either whole or absent, JSON with a stable byte form, and checksums."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ConfigError, InputError


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Writes beside the target and renames, so that a kill or a full disk never leaves half a file."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.writelines([data] if isinstance(data, bytes) else data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)  # temporary files are private, results are not
        os.replace(name, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise InputError(
            f"cannot write {path.name}: {error.strerror}",
            where=str(path),
            hint="free some space or choose another folder",
        ) from error


def canonical_json(value: Any) -> str:
    """Compact JSON with sorted keys: equal values give equal text in every process."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON with sorted keys, written atomically."""
    write_atomic(path, (json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n").encode())


def write_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Compact JSON, a line for each value, written atomically without holding all of it."""
    write_atomic(path, ((canonical_json(value) + "\n").encode() for value in values))


def read_json_lines(path: Path) -> Iterator[Any]:
    """The values of a file that `write_json_lines` wrote, one after the other; errors as of `read_json`."""
    with _reading(path), path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def read_config_text(path: Path) -> str:
    """The text of a TOML file that a user wrote; absent, unreadable and binary ones are `ConfigError`s."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path.name} does not exist", where=str(path)) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text", where=str(path)) from error


def read_json(path: Path) -> Any:
    with _reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path.name} does not exist", where=str(path)) from error
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not JSON: {error}", where=str(path)) from error


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def stable_hash(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of `value`."""
    return sha256(canonical_json(value).encode())[:16]
