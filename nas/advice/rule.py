"""What a rule of advice is: it finds sites in a model, and changes the chosen ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from ...models.architecture import KnobValue
from ...targets.spec import EngineSpec

D_contra = TypeVar("D_contra", contravariant=True)


class Effect(StrEnum):
    """What a change does to the network as a function, from harmless to risky."""

    SAME = "same function"
    RETRAIN = "retrain, as much capacity"
    SMALLER = "retrain, less capacity"


@dataclass(frozen=True, slots=True)
class Site:
    """One place where a rule applies: `before` are the names of the operators that change there or go away.

    `option` tells the rule what to make of it, such as a number of channels, or `changes`, for an architecture, which
    knobs get which values; `detail` tells the user.
    """

    name: str
    before: tuple[str, ...]
    detail: str = ""
    option: int = 0
    changes: tuple[tuple[str, KnobValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Lanes:
    """How many channels a target works on at a time; for targets that do not say, the usual vector of eight."""

    inputs: int = 8
    outputs: int = 8

    @classmethod
    def of(cls, spec: EngineSpec) -> Lanes:
        return cls(spec.input_lanes, spec.output_lanes)

    @property
    def both(self) -> int:
        """A multiple of this many channels fills the lanes on either side of a layer."""
        return max(self.inputs, self.outputs)


class Rule(Protocol[D_contra]):
    """A rule on drafts of one kind. `sites` finds every place; `apply` changes some of them in a draft of the same
    network, and nothing else."""

    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def effect(self) -> Effect: ...

    def sites(self, draft: D_contra, lanes: Lanes) -> list[Site]: ...

    def apply(self, draft: D_contra, sites: Sequence[Site]) -> None: ...
