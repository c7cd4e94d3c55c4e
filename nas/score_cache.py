"""Zero-shot scores that were computed once, kept in one SQLite file that runs, strategies and processes share.

A score is a pure function of what it is keyed by: architecture, proxy, seed, minibatch, shape of the task, and the
code that computes it (a digest of the sources of `nas.proxies` and `models`, and torch's version), so nothing ever
has to be thrown away by hand, and a file made elsewhere is either right or not looked at.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import InputError
from ..common.files import sha256, stable_hash
from ..models.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
_BUSY_SECONDS = 60
_JUDGES = ("choice", "combine", "conformance", "selfcheck")  # modules of `proxies` that only look at finished scores
_TABLE = """
CREATE TABLE IF NOT EXISTS score (
    key TEXT NOT NULL, proxy TEXT NOT NULL, value REAL NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (key, proxy)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores by proxy, higher is better, and the processor seconds that each costs by itself."""

    scores: dict[str, float]
    seconds: dict[str, float]


Compute = Callable[[Sequence[str]], tuple[Mapping[str, float], Mapping[str, float]]]
"""Scores and seconds of the named proxies, as `proxies.timed_scores` gives them."""


@dataclass(frozen=True, slots=True)
class ScoreContext:
    """What a score depends on besides architecture and proxy. `batch` is a digest of the images and labels."""

    batch: str
    seed: int
    input_channels: int
    classes: int

    @classmethod
    def of(cls, images: Tensor, labels: Tensor | None, *, seed: int, classes: int) -> ScoreContext:
        """`images` (batch, C, H, W), `labels` (batch,)."""
        parts = [images] if labels is None else [images, labels]
        texts = [f"{tuple(part.shape)}{part.dtype}{sha256(part.numpy(force=True).tobytes())}" for part in parts]
        return cls(stable_hash(texts), seed, images.shape[1], classes)

    def key(self, architecture: Architecture) -> str:
        values = [architecture.digest(), self.batch, self.seed, self.input_channels, self.classes, _code_digest()]
        return stable_hash(values)


class ScoreCache:
    """A file of scores. Several processes may write at once; each opens it for itself.

    Raises:
        InputError: a file that is no score cache of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._rows.close()
            raise InputError(
                f"not a score cache: {error}", where=str(path), hint="give the name of a new file"
            ) from error

    def scores(
        self, architecture: Architecture, names: Sequence[str], context: ScoreContext, compute: Compute
    ) -> Scored:
        """Every named score of a canonical architecture; only those that nobody computed before cost anything."""
        key = context.key(architecture)
        known = self._known(key)
        missing = [name for name in names if name not in known]
        if missing:
            values, seconds = compute(missing)
            fresh = [(key, name, float(values[name]), float(seconds[name])) for name in missing]
            self._rows.executemany("INSERT OR IGNORE INTO score VALUES (?, ?, ?, ?)", fresh)
            known = self._known(key)  # what another process wrote first is what all see from now on
        return Scored({n: known[n][0] for n in names}, {n: known[n][1] for n in names})

    def close(self) -> None:
        self._rows.close()

    def __len__(self) -> int:
        return int(self._rows.execute("SELECT count(*) FROM score").fetchone()[0])

    def _known(self, key: str) -> dict[str, tuple[float, float]]:
        rows = self._rows.execute("SELECT proxy, value, seconds FROM score WHERE key = ?", (key,))
        return {name: (value, seconds) for name, value, seconds in rows}

    def _prepare(self) -> None:
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = NORMAL")  # a crash may lose the last scores, never the file
        found = int(self._rows.execute("PRAGMA user_version").fetchone()[0])
        tables = self._rows.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found != SCHEMA and (found or tables):
            raise sqlite3.DatabaseError(f"version {found}, not {SCHEMA}")
        self._rows.execute(_TABLE)
        self._rows.execute(f"PRAGMA user_version = {SCHEMA}")


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Of every source file that decides a score."""
    root = Path(__file__).parent
    scores = (path for path in (root / "proxies").glob("*.py") if path.stem not in _JUDGES)
    files = sorted([*scores, *(root.parent / "models").glob("*.py")])
    return stable_hash([version("torch"), *(f"{path.name}{sha256(path.read_bytes())}" for path in files)])
