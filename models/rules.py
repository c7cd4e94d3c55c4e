"""What a knob may be set to: ranges and choices that check a value and describe themselves in errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..common.errors import ConfigError
from .architecture import KnobValue


class Rule(Protocol):
    """`str()` of a rule completes the sentence "allowed: ..."."""

    def allows(self, value: KnobValue) -> bool: ...


@dataclass(frozen=True, slots=True)
class Whole:
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def allows(self, value: KnobValue) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Number:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float

    def allows(self, value: KnobValue) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A closed set."""

    choices: tuple[KnobValue, ...]

    def allows(self, value: KnobValue) -> bool:
        return value in self.choices

    def __str__(self) -> str:
        return "one of " + ", ".join(str(choice) for choice in self.choices)


def enforce(name: str, value: KnobValue, rule: Rule) -> None:
    """Raises `ConfigError` naming the knob, its value and what is allowed."""
    if not rule.allows(value):
        raise ConfigError(f"knob {name} cannot be {value!r}", where=name, hint=f"allowed: {rule}")
