"""`Space`: the typed knobs of a family, narrowed by the user or the target, and the ways to draw from it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..common.errors import ConfigError, UnknownNameError
from ..models.architecture import Architecture, Knob, KnobValue

if TYPE_CHECKING:
    from optuna.trial import Trial

    from ..models.family import Family


@dataclass(frozen=True, slots=True)
class Space:
    """Knobs of `family` in the order in which they are drawn: whether a knob is active depends on earlier ones.

    ordered: the values of every knob stand in an order, such as that of their cost, which samplers may use.
    """

    family: Family
    knobs: tuple[Knob, ...]
    ordered: bool = False

    @classmethod
    def of(cls, family: Family) -> Space:
        """The whole space of a family."""
        return cls(family, tuple(family.knobs()))

    def restrict(self, allowed: Mapping[str, Sequence[KnobValue]], *, where: str = "", ordered: bool = False) -> Space:
        """The space with fewer values for the named knobs, in the order of the family or, if `ordered`, as listed.

        An unknown knob, an empty list or a value that the knob does not have raises `ConfigError`.
        """
        known = {knob.name: knob for knob in self.knobs}
        for name, values in allowed.items():
            at = f"{where}:{name}" if where else name
            if name not in known:
                problem = UnknownNameError("knob", name, known)
                raise ConfigError(problem.what, where=at, hint=problem.hint)
            _check_values(known[name], values, at)
        knobs = (_narrowed(knob, allowed[knob.name], ordered) if knob.name in allowed else knob for knob in self.knobs)
        return replace(self, knobs=tuple(knobs), ordered=ordered or self.ordered)

    def restrict_file(self, path: Path) -> Space:
        """Restricts by the `[knobs]` table of a TOML file, e.g. `stage1_channels = [16, 24]`."""
        return self.restrict(read_knob_table(path), where=str(path))

    def cardinality(self) -> int:
        """Number of different architectures, counting only active knobs.

        Two partial choices count as equivalent when they leave the same knobs active, whether the open
        knobs take their first or their last values.
        """
        return self._count(0, {}, {})

    def sample(self, seed: int) -> Architecture:
        """A random architecture: every active knob drawn uniformly; the same for the same seed."""
        generator = np.random.default_rng(seed)
        return self.draw(lambda knob: knob.values[int(generator.integers(len(knob.values)))])

    def suggest(self, trial: Trial) -> Architecture:
        """An architecture proposed by the trial's sampler; only knobs that are active become its parameters."""
        suggest = _suggest_place if self.ordered else _suggest
        return self.draw(lambda knob: suggest(trial, knob))

    def parameters(self, architecture: Architecture) -> dict[str, KnobValue]:
        """What a sampler has to say for `suggest` to give `architecture`."""
        values = architecture.values
        active = (knob for knob in self.knobs if knob.name in values)
        return {k.name: k.values.index(values[k.name]) if self.ordered else values[k.name] for k in active}

    def chosen(self, values: Mapping[str, KnobValue]) -> Architecture:
        """The architecture of one value for every knob; those of knobs that are not active are left out."""
        return self.draw(lambda knob: values[knob.name])

    def check(self, architecture: Architecture) -> None:
        """Raises `ConfigError` where an active knob of `architecture` has a value outside of this space."""
        values = self.family.own(architecture)
        for knob in self.knobs:
            if knob.name in values and self.family.is_active(knob.name, values):
                _check_values(knob, [values[knob.name]], knob.name)

    def draw(self, choose: Callable[[Knob], KnobValue]) -> Architecture:
        """The architecture whose active knobs `choose` decides, in the order of `knobs`."""
        values: dict[str, KnobValue] = {}
        for knob in self.knobs:
            if self.family.is_active(knob.name, values):
                (*others, last) = knob.values
                values[knob.name] = choose(knob) if others else last
        return self.family.canonicalise(Architecture(self.family.name, tuple(values.items())))

    def _count(self, position: int, values: dict[str, KnobValue], memo: dict[Any, int]) -> int:
        key = (position, self._prospect(position, values))
        if key not in memo:
            memo[key] = self._count_ahead(position, values, memo)
        return memo[key]

    def _count_ahead(self, position: int, values: dict[str, KnobValue], memo: dict[Any, int]) -> int:
        if position == len(self.knobs):
            return 1
        knob = self.knobs[position]
        if not self.family.is_active(knob.name, values):
            return self._count(position + 1, values, memo)
        return sum(self._count(position + 1, {**values, knob.name: value}, memo) for value in knob.values)

    def _prospect(self, position: int, values: dict[str, KnobValue]) -> tuple[tuple[bool, ...], ...]:
        ahead = self.knobs[position:]
        ends = ({knob.name: knob.values[end] for knob in ahead} for end in (0, -1))
        return tuple(tuple(self.family.is_active(k.name, {**values, **end}) for k in ahead) for end in ends)


def read_knob_table(path: Path) -> dict[str, list[KnobValue]]:
    """The `[knobs]` table of a TOML file: knob name to the list of values that stay."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path.name} does not exist", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(path)) from error
    if set(document) != {"knobs"} or not isinstance(document["knobs"], dict):
        found = ", ".join(document) or "nothing"
        raise ConfigError(
            f"expected one table [knobs], found {found}", where=str(path), hint="write [knobs] and NAME = [values]"
        )
    return document["knobs"]


def _narrowed(knob: Knob, allowed: Sequence[KnobValue], ordered: bool) -> Knob:
    stays = [value for value in knob.values if _among(value, allowed)]
    return replace(knob, values=tuple(sorted(stays, key=list(allowed).index) if ordered else stays))


def _check_values(knob: Knob, values: Any, where: str) -> None:
    allowed = ", ".join(str(value) for value in knob.values)
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(
            f"{knob.name} needs a list of values, got {values!r}", where=where, hint=f"allowed: {allowed}"
        )
    for value in values:
        if not _among(value, knob.values):
            close = _nearest(value, knob.values)
            hint = f"did you mean {' or '.join(close)}? allowed: {allowed}" if close else f"allowed: {allowed}"
            raise ConfigError(f"{knob.name} has no value {value!r}", where=where, hint=hint)


def _among(value: KnobValue, values: Sequence[KnobValue]) -> bool:
    """Membership that keeps True apart from 1, which Python equates."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def _nearest(value: object, values: Sequence[KnobValue]) -> list[str]:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if isinstance(value, int | float) and numbers:
        below, above = [v for v in numbers if v < value], [v for v in numbers if v > value]
        return [str(v) for v in ([max(below)] if below else []) + ([min(above)] if above else [])]
    return difflib.get_close_matches(str(value), [str(v) for v in values], n=2)


def even_steps(values: Sequence[KnobValue]) -> tuple[int, int, int] | None:
    """First, last and step of evenly spaced integers, whose order a sampler may use; None for any other choice."""
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return None
    numbers = [int(value) for value in values]
    steps = {b - a for a, b in pairwise(numbers)}
    return (numbers[0], numbers[-1], steps.pop()) if len(steps) == 1 and min(steps) > 0 else None


def _suggest_place(trial: Trial, knob: Knob) -> KnobValue:
    """The number of a value in the order of the knob, so that the sampler knows which values are neighbours."""
    return knob.values[trial.suggest_int(knob.name, 0, len(knob.values) - 1)]


def _suggest(trial: Trial, knob: Knob) -> KnobValue:
    spaced = even_steps(knob.values)
    if spaced is not None:
        return trial.suggest_int(knob.name, spaced[0], spaced[1], step=spaced[2])
    return cast(KnobValue, trial.suggest_categorical(knob.name, list(knob.values)))
