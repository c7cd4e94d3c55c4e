"""`SearchConfig`: one search, read from TOML. Whoever has the resolved file can repeat the run."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..common.budget import Budget
from ..common.errors import ConfigError
from ..common.files import read_config_text
from .proxies import DEFAULT_PROXIES

Setting = bool | int | float | str
AUTO = "auto"  # the sampler that a strategy takes by itself


class SearchConfig(BaseModel):
    """What to search, where it must fit, and how. `seed` None draws one, which the run directory then holds.

    `budgets` are written as on the command line ("latency" = "2ms"); `knobs` narrows the space to the listed
    values, which stand in the order of their cost if `ordered`; `energy` is the
    file of an estimator of energies, for budgets of them; `train` holds settings of the training loop. `trials`
    are candidates that are costed and, where the strategy screens, scored; `trainings` are networks that are trained,
    `train_seconds` the processor seconds for that, screen and supernet counted in: no training begins that would
    probably outlast them. Without either, strategies that screen train their finalists and `multi-shot` every feasible
    trial. `inherit` lets children start from their parents' weights. `enqueue` names files of architectures and
    `warm_start` the directory of an earlier search, whose best `warm_top` follow them: the first trials. Results
    repeat bit for bit with one worker only, so more than one is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    family: str = "ibn-classifier"
    task: str = "digits"
    target: str = "ne-256"
    energy: str = ""
    strategy: str = "hybrid"
    sampler: str = AUTO
    objectives: list[Literal["score", "latency"]] = Field(default=["score"], min_length=1, max_length=2)
    proxies: list[str] = Field(default=list(DEFAULT_PROXIES), min_length=1)
    trials: int = Field(default=200, ge=1, le=1_000_000)
    trainings: int | None = Field(default=None, ge=1, le=1_000_000)
    train_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    finalists: int = Field(default=4, ge=1, le=1000)
    pruner: str = "median"
    inherit: bool = False
    enqueue: list[str] = []
    warm_start: str = ""
    warm_top: int = Field(default=10, ge=1, le=1000)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    workers: Literal[1] = 1
    curate: bool = True
    ordered: bool = False
    budgets: dict[str, str] = {}
    train: dict[str, Setting] = {}
    knobs: dict[str, list[Setting]] = {}

    def budget(self, *, where: str = "budgets") -> Budget:
        """The budgets with their units resolved; `ConfigError` names the one that cannot be read."""
        return Budget.from_dict(self.budgets, where=where)

    def replaced(self, **changes: Any) -> SearchConfig:
        """A validated copy with some fields changed (command-line flags go over the file this way)."""
        return _validated({**self.model_dump(), **changes}, "options")

    def differences(self, other: SearchConfig) -> list[str]:
        """ "name: mine, theirs" for every field that differs."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [f"{name}: {mine[name]!r}, {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]

    def to_toml(self) -> str:
        """The resolved configuration as the TOML that `config_from_toml` reads."""
        values = self.model_dump(exclude_none=True)
        tables = {name: value for name, value in values.items() if isinstance(value, dict)}
        lines = [f"{name} = {_toml(value)}" for name, value in values.items() if name not in tables]
        for name, table in tables.items():
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
        return "\n".join(lines) + "\n"


def config_from_toml(text: str, *, where: str) -> SearchConfig:
    """Reads and validates; every problem is a `ConfigError` at file:key."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", where=where) from error
    return _validated(values, where)


def load_config(path: Path) -> SearchConfig:
    return config_from_toml(read_config_text(path), where=str(path))


def _validated(values: dict[str, Any], where: str) -> SearchConfig:
    try:
        config = SearchConfig.model_validate(values)
    except ValidationError as error:
        raise _config_error(error, where) from error
    if len(set(config.objectives)) != len(config.objectives) or config.objectives[0] != "score":
        problem = f"objectives must be [score] or [score, latency], got {config.objectives}"
        raise ConfigError(problem, where=f"{where}:objectives")
    return config


def _config_error(error: ValidationError, where: str) -> ConfigError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if not str(part)[:1].isupper()]
    names = list(SearchConfig.model_fields)
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path[0], names, n=2)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        return ConfigError(
            f"unknown key {path[0]!r}", where=f"{where}:{path[0]}", hint=f"{hint}known: {', '.join(names)}"
        )
    message = first["msg"][:1].lower() + first["msg"][1:]
    return ConfigError(f"{path[0]}: {message}, got {first['input']!r}", where=f"{where}:{'.'.join(path)}")


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    # JSON and TOML agree on numbers, booleans and escapes once DEL is escaped, which JSON leaves alone.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
