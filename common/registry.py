"""One registry for everything pluggable: kebab-case names to lazily imported objects."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from .errors import InputError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps a name to an object, or to "package.module:attribute" which is imported on first use.

    Third parties add names through the entry-point group `lanefit.<kind>`. A name that is
    registered twice is an error, an unknown one lists the known names.
    """

    def __init__(self, kind: str, builtin: dict[str, T | str] | None = None) -> None:
        self.kind = kind
        self._items: dict[str, T | str] = dict(builtin or {})
        self._plugins_loaded = False

    def add(self, name: str, item: T | str) -> None:
        if name in self._items:
            raise InputError(f"{self.kind} {name!r} is registered twice", hint="choose another name")
        self._items[name] = item

    def names(self) -> list[str]:
        self._load_plugins()
        return sorted(self._items)

    def get(self, name: str) -> T:
        self._load_plugins()
        if name not in self._items:
            raise UnknownNameError(self.kind, name, self._items)
        item = self._items[name]
        if isinstance(item, str):
            module, _, attribute = item.partition(":")
            item = cast(T, getattr(importlib.import_module(module), attribute))
            self._items[name] = item
        return item

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in entry_points(group=f"lanefit.{self.kind}"):
            self.add(point.name, point.value)
