"""What advice is given on: a float ONNX model, or an architecture of a family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from onnx import ModelProto

from ...common.registry import Registry
from ...models.architecture import Architecture
from .draft import Draft
from .judges import Costing, Judge
from .knobs import ArchitectureDraft
from .rule import Lanes, Rule, Site
from .rules import ARCHITECTURE_RULES, MODEL_RULES

if TYPE_CHECKING:
    from ...models.family import Family


class Subject(Protocol):
    """A network that rules can change. Every method leaves the subject as it is."""

    @property
    def rules(self) -> Registry[Any]:
        """The rules for subjects of this kind."""
        ...

    def sites(self, rule: Rule[Any], lanes: Lanes) -> list[Site]: ...

    def applied(self, rule: Rule[Any], sites: Sequence[Site]) -> Self:
        """The network with `rule` at `sites`. `ModelError` or `ConfigError` where that is none."""
        ...

    def cost(self, judge: Judge) -> Costing: ...


@dataclass(frozen=True, slots=True)
class ModelSubject:
    """A float model as `onnx_export.simplify` leaves it."""

    model: ModelProto

    @property
    def rules(self) -> Registry[Rule[Draft]]:
        return MODEL_RULES

    def sites(self, rule: Rule[Draft], lanes: Lanes) -> list[Site]:
        return rule.sites(Draft(self.model), lanes)

    def applied(self, rule: Rule[Draft], sites: Sequence[Site]) -> ModelSubject:
        draft = Draft(self.model)
        rule.apply(draft, sites)
        return ModelSubject(draft.finish())

    def cost(self, judge: Judge) -> Costing:
        return judge.model_cost(self.model)


@dataclass(frozen=True, slots=True)
class ArchitectureSubject:
    """An architecture with `channels` of input and `classes` of output."""

    family: Family
    architecture: Architecture
    channels: int
    classes: int

    @property
    def rules(self) -> Registry[Rule[ArchitectureDraft]]:
        return ARCHITECTURE_RULES

    def sites(self, rule: Rule[ArchitectureDraft], lanes: Lanes) -> list[Site]:
        return rule.sites(self._draft(), lanes)

    def applied(self, rule: Rule[ArchitectureDraft], sites: Sequence[Site]) -> ArchitectureSubject:
        draft = self._draft()
        rule.apply(draft, sites)
        return ArchitectureSubject(self.family, draft.architecture, self.channels, self.classes)

    def cost(self, judge: Judge) -> Costing:
        return judge.layers_cost(self._draft().layers())

    def _draft(self) -> ArchitectureDraft:
        return ArchitectureDraft(self.family, self.architecture, self.channels, self.classes)
