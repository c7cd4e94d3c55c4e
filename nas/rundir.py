"""`RunDirectory`: the unit of truth of a search. Reports are made from it alone.

config.toml   the resolved configuration, usable with --config again
run.json      status, command, seeds, versions, environment, results; replaced atomically
trials.jsonl  the trials of a search that has thousands, which run.json then only counts
study.db      Optuna's storage, also for optuna-dashboard; absent when run.json says that trials are kept elsewhere
weights/      trained weights of the finalists, by architecture digest
supernet.npz  shared weights, where the strategy trains a supernet
curation.json the curated space, and what it followed from
"""

from __future__ import annotations

import datetime
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.environment import environment, versions
from ..common.errors import ConfigError, InputError, LanefitError
from ..common.files import canonical_json, read_json, read_json_lines, write_atomic, write_json, write_json_lines
from .config import SearchConfig, load_config
from .results import SearchResult
from .seeds import draw_root_seed

if TYPE_CHECKING:
    from .storage import Place  # whose module imports optuna: looking at a run needs none of it

SCHEMA_VERSION = 1
TRIALS_INSIDE = 5000  # with more, run.json would be too large for what only asks it for the winner
TRIALS_FILE = "trials.jsonl"


class RunDirectory:
    """One search on disk. `status` in run.json is running, interrupted, failed, over-budget or done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def database(self) -> Path:
        return self.path / "study.db"

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    def weights(self, digest: str) -> Path:
        return self.path / "weights" / f"{digest}.npz"

    @property
    def supernet(self) -> Path:
        """The shared weights and the optimiser of a supernet, after its last finished epoch."""
        return self.path / "supernet.npz"

    @property
    def curation(self) -> Path:
        """The curation that this search's space came from, see `curation.kept`."""
        return self.path / "curation.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory for this process; the lock vanishes with the process, however it ends."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise InputError(f"cannot write to {self.path.name}: {error.strerror}", where=str(self.path)) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            hint = "wait for it, or choose another directory"
            raise InputError("another search is running here", where=str(self.path), hint=hint) from error
        finally:
            os.close(handle)

    def start(
        self, config: SearchConfig, command: Sequence[str], facts: Mapping[str, Any], storage: Place | None = None
    ) -> SearchConfig:
        """Stores a new search, drawing the seed when none was given, and returns the resolved configuration.

        With `storage` its trials are kept there, as a study with the name of this directory.
        """
        if self.database.exists() or self.record.exists():
            hint = f"continue with --resume {self.path}, or choose another directory"
            raise ConfigError("this directory already holds a search", where=str(self.path), hint=hint)
        resolved = config if config.seed is not None else config.replaced(seed=draw_root_seed())
        write_atomic(self.config_file, resolved.to_toml().encode())
        kept = {"storage": {"place": storage.shown, "study": self.path.resolve().name}} if storage else {}
        self._write(resolved, command, facts, {"started": _now(), **kept})
        return resolved

    def resume(
        self,
        config: SearchConfig | None,
        command: Sequence[str],
        facts: Mapping[str, Any],
        storage: Place | None = None,
    ) -> SearchConfig:
        """The stored configuration; a given one must agree, except that it may ask for more trials or finalists.

        Facts that differ from the stored ones (another estimator, an edited target) are refused.
        """
        if not self.record.exists():
            raise ConfigError("no search to resume here", where=str(self.path), hint="start one without --resume")
        stored = load_config(self.config_file)
        resolved = stored if config is None else _continued(stored, config, str(self.path))
        before = self.read()
        _check_facts(before.get("facts", {}), facts, str(self.record))
        self.elsewhere(storage)
        if resolved != stored:
            write_atomic(self.config_file, resolved.to_toml().encode())
        kept = {key: before[key] for key in ("started", "storage") if key in before}
        self._write(resolved, command, facts, {"started": _now(), **kept})
        return resolved

    def elsewhere(self, storage: Place | None = None) -> tuple[Place, str] | None:
        """Where the trials are kept if not in this directory, and the name of their study.

        run.json holds the address without its password; `storage` gives one that has it.
        """
        stored = self.read().get("storage")
        if storage is not None and (stored is None or storage.shown != stored["place"]):
            kept = stored["place"] if stored else "the directory itself"
            raise ConfigError(f"the trials of this search are kept in {kept}", where="--storage", hint="drop it")
        if not stored:
            return None
        from .storage import parse_place

        return storage or parse_place(stored["place"], where=str(self.record)), stored["study"]

    def finish(self, status: str, result: SearchResult | None = None, error: LanefitError | None = None) -> None:
        """Replaces run.json with the outcome."""
        changes: dict[str, Any] = {"status": status, "finished": _now()}
        if result is not None:
            changes["results"] = self._results(result)
        if error is not None:
            changes["error"] = {"code": error.code, **error.as_dict()}
        write_json(self.record, {**self.read(), **changes})

    def read(self) -> dict[str, Any]:
        """run.json; `ConfigError` when it is damaged or from a newer lanefit."""
        values = read_json(self.record)
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            found = values.get("schema_version") if isinstance(values, dict) else None
            problem = f"{self.record.name} has schema version {found!r}, this lanefit reads {SCHEMA_VERSION}"
            raise ConfigError(problem, where=str(self.record))
        return values

    def result(self) -> SearchResult:
        """The stored outcome; `InputError` while there is none."""
        values = self.read()
        if "results" not in values:
            hint = f"continue with --resume {self.path}"
            raise InputError(
                f"this search is {values['status']} and has no results yet", where=str(self.path), hint=hint
            )
        try:
            stored = values["results"]
            if isinstance(stored["trials"], dict):
                stored = {**stored, "trials": read_json_lines(self.path / stored["trials"]["file"])}
            return SearchResult.from_dict(stored)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{self.record.name} is incomplete: {error}", where=str(self.record)) from error

    def keep_weights(self, digests: Iterable[str]) -> None:
        """Deletes trained weights of all other architectures."""
        kept = {self.weights(digest) for digest in digests}
        for path in sorted(self.path.glob("weights/*.npz")):
            if path not in kept:
                path.unlink()

    def _results(self, result: SearchResult) -> dict[str, Any]:
        """The results for run.json. Trials by the thousand go into a file beside it, a line each."""
        if len(result.trials) <= TRIALS_INSIDE:
            return result.as_dict()
        write_json_lines(self.path / TRIALS_FILE, (trial.as_dict() for trial in result.trials))
        trials = {"file": TRIALS_FILE, "count": len(result.trials)}
        return {**replace(result, trials=()).as_dict(), "trials": trials}

    def _write(
        self, config: SearchConfig, command: Sequence[str], facts: Mapping[str, Any], kept: Mapping[str, Any]
    ) -> None:
        write_json(
            self.record,
            {
                "schema_version": SCHEMA_VERSION,
                "status": "running",
                "command": list(command),
                "facts": dict(facts),
                "config": config.model_dump(),
                "seed": config.seed,
                **kept,
                "versions": versions(),
                "environment": environment(),
            },
        )


def _continued(stored: SearchConfig, given: SearchConfig, where: str) -> SearchConfig:
    """`given` with the stored seed; a difference that would make it another search is refused."""
    wanted = given if given.seed is not None else given.replaced(seed=stored.seed)
    aligned = wanted.replaced(trials=stored.trials, finalists=stored.finalists)
    differences = stored.differences(aligned)
    if differences:
        hint = "only trials and finalists may change; start a new search for anything else"
        raise ConfigError(f"not the search that is stored here ({'; '.join(differences)})", where=where, hint=hint)
    if wanted.trials < stored.trials:
        raise ConfigError(f"trials can only grow, {stored.trials} are stored", where=where)
    return wanted


def _check_facts(stored: Mapping[str, Any], given: Mapping[str, Any], where: str) -> None:
    changed = [
        name
        for name in sorted({*stored, *given})
        if canonical_json(stored.get(name)) != canonical_json(given.get(name))
    ]
    if changed:
        hint = "resume with what the search was started with, or start a new one"
        raise ConfigError(f"{', '.join(changed)} changed since this search was started", where=where, hint=hint)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
