"""`Budget`: what a network may cost, read from "latency=2ms"; `Verdict`: pass or fail with the slack of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import ConfigError, InputError, UnknownNameError
from .units import format_bytes, format_uj, format_us, parse_bytes, parse_energy_uj, parse_time_us


@dataclass(frozen=True, slots=True)
class BudgetItem:
    """One limit against one value, both in the unit of `name` (us, bytes, uJ, accuracy 0..1)."""

    name: str
    limit: float
    value: float

    @property
    def slack(self) -> float:
        """Share of the limit that is left; negative when it is missed. An accuracy floor has slack above it."""
        difference = self.value - self.limit if self.name == "accuracy" else self.limit - self.value
        return difference / self.limit

    @property
    def passed(self) -> bool:
        return self.slack >= 0

    def __str__(self) -> str:
        sign = (">=" if self.passed else "<") if self.name == "accuracy" else ("<=" if self.passed else ">")
        slack = f"{self.slack:.1%} slack" if self.passed else f"missed by {-self.slack:.1%}"
        return f"{self.name} {_format(self.name, self.value)} {sign} {_format(self.name, self.limit)} ({slack})"

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "limit": self.limit, "value": self.value, "slack": self.slack, "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for every limit of a budget; an empty budget passes."""

    items: tuple[BudgetItem, ...] = ()

    @property
    def passed(self) -> bool:
        return all(item.passed for item in self.items)

    @property
    def excess(self) -> float:
        """Sum of the relative amounts by which limits are missed: 0 inside the budget, a distance outside of it."""
        return sum((-item.slack for item in self.items if not item.passed), 0.0)

    def __str__(self) -> str:
        items = ", ".join(str(item) for item in self.items) or "no budget given"
        return f"{'PASS' if self.passed else 'FAIL'}  {items}"

    def as_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "items": [item.as_dict() for item in self.items]}


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits of latency, sizes and energy of an inference, a floor of accuracy (in 0..1); None is unlimited."""

    latency_us: float | None = None
    sram_bytes: int | None = None
    weight_bytes: int | None = None
    accuracy: float | None = None
    energy_uj: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.limits().items():
            if not (math.isfinite(limit) and limit > 0):
                raise ConfigError(f"the {name} budget must be positive and finite, got {limit}")
        if self.accuracy is not None and self.accuracy > 1:
            raise ConfigError(f"an accuracy floor is a share up to 1, got {self.accuracy:g}", hint="write 0.97 or 97%")

    @classmethod
    def parse(cls, texts: Iterable[str], *, where: str = "") -> Budget:
        """Reads "latency=2ms", "sram=512KiB", "energy=50uJ" and "accuracy=97%"; each name at most once."""
        values: dict[str, str] = {}
        for text in texts:
            name, equals, value = (part.strip() for part in text.partition("="))
            if not equals or not value:
                raise ConfigError(f"{text!r} is not NAME=LIMIT", where=where, hint="write latency=2ms or sram=512KiB")
            if name in values:
                raise ConfigError(f"the {name} budget is given twice: {values[name]} and {value}", where=where)
            values[name] = value
        return cls.from_dict(values, where=where)

    @classmethod
    def from_dict(cls, values: Mapping[str, str | float], *, where: str = "") -> Budget:
        """Reads {"latency": "2ms", ...}; all but accuracy need a unit, an unknown name is a `ConfigError`."""
        limits: dict[str, Any] = {}
        for name, value in values.items():
            if name not in _FIELD:
                message = UnknownNameError("budget", name, _FIELD)
                raise ConfigError(message.what, where=where, hint=message.hint)
            limits[_FIELD[name]] = _parse(name, str(value), f"{where}:{name}" if where else name)
        return cls(**limits)

    def limits(self) -> dict[str, float]:
        """The limits that are set, by the name that users write."""
        return {n: v for n, f in _FIELD.items() if (v := getattr(self, f)) is not None}

    def as_dict(self) -> dict[str, float | None]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def hardware(self) -> Budget:
        """The same limits without the accuracy floor: what can be checked before training."""
        return replace(self, accuracy=None)

    def check(
        self,
        *,
        latency_us: float | None = None,
        sram_bytes: float | None = None,
        weight_bytes: float | None = None,
        accuracy: float | None = None,
        energy_uj: float | None = None,
    ) -> Verdict:
        """The verdict on these values; a limited quantity that was not measured raises `InputError`."""
        given = {"latency": latency_us, "sram": sram_bytes, "weights": weight_bytes}
        given |= {"energy": energy_uj, "accuracy": accuracy}
        return Verdict(tuple(BudgetItem(n, limit, _known(n, given[n])) for n, limit in self.limits().items()))

    def __str__(self) -> str:
        sign = {"accuracy": ">="}
        return ", ".join(f"{n} {sign.get(n, '<=')} {_format(n, v)}" for n, v in self.limits().items()) or "no budget"


_FIELD = {
    "latency": "latency_us",
    "sram": "sram_bytes",
    "weights": "weight_bytes",
    "energy": "energy_uj",
    "accuracy": "accuracy",
}


def _known(name: str, value: float | None) -> float:
    if value is None or math.isnan(value):
        raise InputError(
            f"a {name} budget is set but no {name} was measured", hint=f"drop the {name} budget or measure it"
        )
    return value


def _parse(name: str, text: str, where: str) -> float | int:
    if name == "latency":
        return parse_time_us(text, where=where)
    if name == "energy":
        return parse_energy_uj(text, where=where)
    if name in ("sram", "weights"):
        return parse_bytes(text, where=where)
    percent = text.removesuffix("%").strip()
    try:
        return float(percent) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"{text!r} is not an accuracy", where=where, hint="write 0.97 or 97%") from None


def _format(name: str, value: float) -> str:
    if name == "latency":
        return format_us(value)
    if name == "energy":
        return format_uj(value)
    return f"{value:.2%}" if name == "accuracy" else format_bytes(value)
