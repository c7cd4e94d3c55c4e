"""`Architecture`: a family's name and its knob values; `Knob`: one choice that a family offers to a search."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from ..common.errors import ConfigError, InputError
from ..common.files import canonical_json, stable_hash

KnobValue: TypeAlias = int | float | str

_FAMILY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_KNOB = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")


@dataclass(frozen=True, slots=True)
class Knob:
    """One choice. `values` are what a search tries, in ascending order where they have one.

    `kind` tells curation what the values mean: channels, expansion, kernel, depth, stride, block,
    multiplier, resolution or activation.
    """

    name: str
    values: tuple[KnobValue, ...]
    kind: str
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One network of a family, as plain values. Knobs are sorted by name; 1.0 and 1 are the same value.

    Raises:
        ConfigError: for a malformed family name, knob name or value, naming it.
    """

    family: str
    knobs: tuple[tuple[str, KnobValue], ...]

    def __post_init__(self) -> None:
        if not _FAMILY.fullmatch(self.family):
            raise ConfigError(f"{self.family!r} is not a family name", hint="write lower-case words joined by hyphens")
        names: set[str] = set()
        for name, _ in self.knobs:
            if name in names or not _is_knob_name(name):
                raise ConfigError(f"knob name {name!r} is malformed or given twice", hint="letters, digits and _")
            names.add(name)
        object.__setattr__(self, "knobs", tuple(sorted(_pair(name, value) for name, value in self.knobs)))

    @classmethod
    def of(cls, family: str, values: Mapping[str, KnobValue] | None = None, /, **knobs: KnobValue) -> Architecture:
        """From a mapping, keywords or both; a keyword wins."""
        return cls(family, tuple({**(values or {}), **knobs}.items()))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], *, where: str = "") -> Architecture:
        """Reads {"family": name, "knobs": {name: value}}; errors carry `where`:key."""
        for key in document:
            if key not in ("family", "knobs"):
                raise ConfigError(f"unknown key {key!r}", where=_at(where, key), hint="known: family, knobs")
        family, knobs = document.get("family"), document.get("knobs")
        if not isinstance(family, str):
            raise ConfigError(f"family must be a name, got {family!r}", where=_at(where, "family"))
        if not isinstance(knobs, Mapping):
            raise ConfigError(f"knobs must be a table of values, got {knobs!r}", where=_at(where, "knobs"))
        try:
            return cls(family, tuple(knobs.items()))
        except ConfigError as error:
            _check_values(knobs, where)
            raise ConfigError(error.what, where=error.where or where, hint=error.hint) from None

    @classmethod
    def from_json(cls, text: str, *, where: str = "") -> Architecture:
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"not valid JSON: {error}", where=where) from error
        return cls._from_document(document, where)

    @classmethod
    def from_toml(cls, text: str, *, where: str = "") -> Architecture:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"not valid TOML: {error}", where=where) from error
        return cls._from_document(document, where)

    @classmethod
    def _from_document(cls, document: object, where: str) -> Architecture:
        if not isinstance(document, Mapping):
            raise ConfigError("an architecture is a table with family and knobs", where=where)
        return cls.from_dict(document, where=where)

    @property
    def values(self) -> dict[str, KnobValue]:
        return dict(self.knobs)

    def as_dict(self) -> dict[str, Any]:
        return {"family": self.family, "knobs": self.values}

    def with_values(self, **knobs: KnobValue) -> Architecture:
        """This architecture with some knobs replaced or added."""
        return Architecture(self.family, tuple({**self.values, **knobs}.items()))

    def to_json(self) -> str:
        return canonical_json(self.as_dict())

    def to_toml(self) -> str:
        # Names and values are checked words and finite numbers, whose JSON form is also their TOML form.
        lines = [f"{name} = {json.dumps(value)}" for name, value in self.knobs]
        return "\n".join([f'family = "{self.family}"', "", "[knobs]", *lines, ""])

    def digest(self) -> str:
        """Stable hash of family and knobs. Equal networks have equal digests once their family canonicalised them."""
        return stable_hash(self.as_dict())


def read_architecture(path: Path) -> Architecture:
    """The architecture in a `.toml` or `.json` file."""
    readers = {".toml": Architecture.from_toml, ".json": Architecture.from_json}
    if path.suffix not in readers:
        raise ConfigError(f"{path.name} is neither TOML nor JSON", where=str(path), hint="name it *.toml or *.json")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text", where=str(path)) from error
    return readers[path.suffix](text, where=str(path))


@lru_cache(maxsize=4096)
def _is_knob_name(name: str) -> bool:
    return _KNOB.fullmatch(name) is not None


def _pair(name: str, value: object) -> tuple[str, KnobValue]:
    """The knob as it is kept. Equal ones are one object: a study holds millions of them."""
    try:
        return _shared_pair(name, value)
    except TypeError:  # not hashable, hence no knob value
        return name, _value(name, value)


@lru_cache(maxsize=65536, typed=True)
def _shared_pair(name: str, value: object) -> tuple[str, KnobValue]:
    return name, _value(name, value)


def _check_values(knobs: Mapping[str, object], where: str) -> None:
    for name, value in knobs.items():
        try:
            _value(name, value)
        except ConfigError as error:
            raise ConfigError(error.what, where=_at(where, f"knobs.{name}"), hint=error.hint) from None


def _value(name: str, value: object) -> KnobValue:
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ConfigError(f"knob {name} must be a finite number or a word, got {value!r}")


def _at(where: str, key: str) -> str:
    return f"{where}:{key}" if where else key
