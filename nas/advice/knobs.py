"""The same rules for architectures of a family: a rule looks at the kinds of knobs, and proposes other values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ...common.errors import ConfigError
from ...models.architecture import Architecture, Knob, KnobValue
from .rule import Effect, Lanes, Site

if TYPE_CHECKING:
    from ...models.family import Family
    from ...models.layers import LayerSpec

_LEAST = 8
_SIZE = 0.875
_AT_MOST_CUT = 0.34
Choose = Callable[["ArchitectureDraft", Knob, KnobValue, Lanes], KnobValue | None]


class ArchitectureDraft:
    """An architecture of `family` under change, for an input of `channels` and an output of `classes`."""

    def __init__(self, family: Family, architecture: Architecture, channels: int, classes: int) -> None:
        self.family, self._channels, self._classes = family, channels, classes
        self.architecture = family.canonicalise(architecture)
        self.knobs = {knob.name: knob for knob in family.knobs()}

    def layers(self, architecture: Architecture | None = None) -> tuple[LayerSpec, ...]:
        chosen = architecture or self.architecture
        return self.family.layers(chosen, input_channels=self._channels, classes=self._classes)

    def changed(self, changes: Sequence[tuple[str, KnobValue]]) -> Architecture | None:
        """The architecture with these values; None where the family has no such network."""
        try:
            found = self.family.canonicalise(self.architecture.with_values(**dict(changes)))
            self.family.check(found)
            self.layers(found)
        except ConfigError:
            return None
        return found if found != self.architecture else None

    def site(self, name: str, changes: Sequence[tuple[str, KnobValue]], detail: str) -> Site | None:
        """The change as a site, with the layers that it changes or takes away."""
        found = self.changed(changes)
        if found is None:
            return None
        after = {layer.name: layer for layer in self.layers(found)}
        names = tuple(layer.name for layer in self.layers() if after.get(layer.name) != layer)
        return Site(name, names, detail, changes=tuple(changes))

    def typed(self) -> Iterator[tuple[Knob, KnobValue]]:
        """The knobs that the family explains, with their values here, in the family's order."""
        values = self.architecture.values
        return ((knob, values[name]) for name, knob in self.knobs.items() if name in values)


@dataclass(frozen=True, slots=True)
class KnobRule:
    """Proposes another value for each knob of one kind."""

    name: str
    reason: str
    effect: Effect
    kind: str
    choose: Choose

    def sites(self, draft: ArchitectureDraft, lanes: Lanes) -> list[Site]:
        found: list[Site] = []
        for knob, value in draft.typed():
            new = self.choose(draft, knob, value, lanes) if knob.kind == self.kind else None
            if new is not None and new != value:
                site = draft.site(knob.name, [(knob.name, new)], f"{value} to {new}")
                found += [site] if site is not None else []
        return found

    def apply(self, draft: ArchitectureDraft, sites: Sequence[Site]) -> None:
        _apply(draft, sites)


@dataclass(frozen=True, slots=True)
class SwapStrides:
    """The stride of a later stage moves to the nearest earlier one that has none."""

    name: str
    reason: str
    effect: Effect = Effect.SMALLER

    def sites(self, draft: ArchitectureDraft, lanes: Lanes) -> list[Site]:
        strides = [(knob.name, value) for knob, value in draft.typed() if knob.kind == "stride"]
        for (early, first), (late, second) in pairwise(strides):
            if first == 1 and second == 2:
                site = draft.site(early, [(early, 2), (late, 1)], f"stride 2 moves here from {late}")
                return [site] if site is not None else []
        return []

    def apply(self, draft: ArchitectureDraft, sites: Sequence[Site]) -> None:
        _apply(draft, sites)


def _apply(draft: ArchitectureDraft, sites: Sequence[Site]) -> None:
    found = draft.changed([change for site in sites for change in site.changes])
    if found is None:
        names = ", ".join(site.name for site in sites)
        raise ConfigError(f"family {draft.family.name} has no network with all of these changes", where=names)
    draft.architecture = found


def block_of(kind: str) -> Choose:
    """Inverted bottlenecks become blocks of this kind, where the family has it."""
    return lambda draft, knob, value, lanes: kind if value == "ibn" and kind in knob.values else None


def aligned_down(draft: ArchitectureDraft, knob: Knob, value: KnobValue, lanes: Lanes) -> KnobValue | None:
    aligned = int(value) - int(value) % lanes.both
    return aligned if aligned >= max(_LEAST, (1 - _AT_MOST_CUT) * int(value)) else None


def aligned_up(draft: ArchitectureDraft, knob: Knob, value: KnobValue, lanes: Lanes) -> KnobValue | None:
    return -(-int(value) // lanes.both) * lanes.both if value else None


def half_of_head(draft: ArchitectureDraft, knob: Knob, value: KnobValue, lanes: Lanes) -> KnobValue | None:
    half = max(lanes.both, round(int(value) / 2 / lanes.both) * lanes.both)
    return half if "head" in knob.name and half < int(value) else None


def next_lower_late(draft: ArchitectureDraft, knob: Knob, value: KnobValue, lanes: Lanes) -> KnobValue | None:
    """The next value below, in the later half of the knobs of this kind."""
    same = [other.name for other, _ in draft.typed() if other.kind == knob.kind]
    below = [other for other in knob.values if not isinstance(other, str) and other < _number(value)]
    return max(below) if below and same.index(knob.name) >= len(same) // 2 else None


def one_less(draft: ArchitectureDraft, knob: Knob, value: KnobValue, lanes: Lanes) -> KnobValue | None:
    """One block less in a stage; the number of stages stays."""
    return int(value) - 1 if knob.name != "stages" and int(value) > 1 else None


def three(draft: ArchitectureDraft, knob: Knob, value: KnobValue, lanes: Lanes) -> KnobValue | None:
    return 3 if int(value) > 3 and 3 in knob.values else None


def lower_size(draft: ArchitectureDraft, knob: Knob, value: KnobValue, lanes: Lanes) -> KnobValue | None:
    return int(int(value) * _SIZE) // 4 * 4 or None


def relu(draft: ArchitectureDraft, knob: Knob, value: KnobValue, lanes: Lanes) -> KnobValue | None:
    return "relu" if value not in ("relu", "relu6") and "relu" in knob.values else None


def off(draft: ArchitectureDraft, knob: Knob, value: KnobValue, lanes: Lanes) -> KnobValue | None:
    """A switch that is on."""
    return 0 if value == 1 and knob.values == (0, 1) else None


def _number(value: KnobValue) -> float:
    return float(value) if not isinstance(value, str) else 0.0
