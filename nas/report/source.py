"""`Source`: all that a report is made from, read from a run directory, whether its search is finished or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import get_storage

from ...common.errors import InputError, LanefitError
from ..config import SearchConfig, load_config
from ..results import SearchResult, TrialRecord
from ..rundir import RunDirectory
from ..storage import Place, open_storage, parse_place, storage_errors
from ..study import STUDY_NAME

_RECORD = "record"  # the attribute of a trial that holds all of it
_TRAINED, _STOPPED = "training:", "stopped:"  # notes on trainings, by architecture digest


@dataclass(frozen=True, slots=True)
class Source:
    """One search. `run` is run.json without the results; `trainings_s` are seconds by architecture digest.

    `gaps` are sentences on what could not be read, for the reader of the report.
    """

    name: str
    run: Mapping[str, Any]
    config: SearchConfig
    result: SearchResult
    trainings_s: Mapping[str, float] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return str(self.run["status"])


def read_source(path: Path, storage: Place | None = None) -> Source:
    """The search in `path`. `storage` is where its trials are, with the password that run.json leaves out.

    Raises:
        InputError: no search here, or one without results whose trials cannot be read.
        ConfigError: run.json is damaged.
    """
    directory = RunDirectory(path)
    if not directory.record.exists():
        hint = "give the directory of a search, such as runs/NAME"
        raise InputError("this folder holds no search", where=str(path), hint=hint)
    run, config = directory.read(), load_config(directory.config_file)
    facts = {key: value for key, value in run.items() if key != "results"}
    notes, gaps = _notes(directory, storage)
    if "results" in run:
        result = directory.result()
    else:
        result = _unfinished(directory, storage, config)
        gaps += (f"The search is {run['status']}: its last round, winner included, is yet to come.",)
    return Source(path.resolve().name, facts, config, result, _seconds(notes), gaps)


def _notes(directory: RunDirectory, storage: Place | None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Notes beside the trials. A finished search is reported without them, so what prevents reading is only said."""
    try:
        place, name = _place(directory, storage)
        with open_storage(place) as backend, storage_errors(place):
            return optuna.load_study(study_name=name, storage=get_storage(backend)).user_attrs, ()
    except (LanefitError, KeyError) as error:
        return {}, (f"Seconds of trainings are unknown: {error}.",)


def _unfinished(directory: RunDirectory, storage: Place | None, config: SearchConfig) -> SearchResult:
    place, name = _place(directory, storage)
    with open_storage(place) as backend, storage_errors(place):
        study = optuna.load_study(study_name=name, storage=get_storage(backend))
        stored = [trial.user_attrs.get(_RECORD) for trial in study.get_trials(deepcopy=False)]
    records = [TrialRecord.from_dict(values) for values in stored if values]
    trials = tuple(sorted(records, key=lambda record: record.index))
    return SearchResult(config.budget(), config.seed or 0, trials)


def _place(directory: RunDirectory, storage: Place | None) -> tuple[Place, str]:
    elsewhere = directory.elsewhere(storage)
    if elsewhere is None and not directory.database.exists():
        raise InputError("the database of trials is missing", where=str(directory.database))
    return elsewhere or (parse_place(directory.database), STUDY_NAME)


def _seconds(notes: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in notes.items():
        kind = next((prefix for prefix in (_TRAINED, _STOPPED) if key.startswith(prefix)), None)
        if kind and isinstance(value, dict) and "seconds" in value:
            found[key.removeprefix(kind)] = float(value["seconds"])
    return found
