"""What curation found, as values: for tables, files and the search's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...models.architecture import KnobValue


@dataclass(frozen=True, slots=True)
class Dropped:
    """A value that is not worth considering, and why, in one sentence."""

    value: KnobValue
    reason: str


@dataclass(frozen=True, slots=True)
class KnobCuration:
    """What became of one knob. `kept` stands in the order of cost.

    cost_ratios: cost of each kept value over that of the first, the median over the probed architectures.
    falls_before, falls_after: share of the steps from a value to the next at which the cost fell, values ordered by
    work before and as in `kept` after; None where there was no step.
    """

    knob: str
    kept: tuple[KnobValue, ...]
    dropped: tuple[Dropped, ...] = ()
    cost_ratios: tuple[float, ...] = ()
    falls_before: float | None = None
    falls_after: float | None = None


@dataclass(frozen=True, slots=True)
class CurationReport:
    """What curation did to a space; serialisable. `probes` counts the networks whose cost was asked for."""

    target: str
    cardinality_before: int
    cardinality_after: int
    knobs: tuple[KnobCuration, ...]
    probes: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CurationReport:
        """The inverse of `as_dict`, also after a passage through JSON."""
        return cls(**{**values, "knobs": tuple(_knob(knob) for knob in values["knobs"])})


def _knob(values: Mapping[str, Any]) -> KnobCuration:
    dropped = tuple(Dropped(**entry) for entry in values["dropped"])
    listed = {name: tuple(values[name]) for name in ("kept", "cost_ratios")}
    return KnobCuration(**{**values, **listed, "dropped": dropped})
