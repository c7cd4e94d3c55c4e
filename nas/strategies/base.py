"""Search strategies by name. A strategy turns a session into finalists; what a winner is, is the same for all.

`conformance.StrategyConformance` says what each must satisfy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...common.registry import Registry
from ..results import Finalist

if TYPE_CHECKING:
    from ..session import Session


@dataclass(frozen=True, slots=True)
class Outcome:
    """Finalists in order of preference before training, and remarks for the user."""

    finalists: tuple[Finalist, ...]
    warnings: tuple[str, ...] = ()


class Strategy(Protocol):
    """A way to search. `trains` says whether its finalists have a validation accuracy.

    `sampler` is the one sampler that makes sense for it, whatever the configuration says, or None.
    """

    @property
    def name(self) -> str: ...
    @property
    def trains(self) -> bool: ...
    @property
    def summary(self) -> str: ...
    @property
    def sampler(self) -> str | None: ...

    def run(self, session: Session) -> Outcome:
        """Finds finalists; everything stored on the way makes a second call return the same without the work."""
        ...


STRATEGIES: Registry[Strategy] = Registry(
    "strategy",
    {
        "random": f"{__package__}.trained:RANDOM",
        "multi-shot": f"{__package__}.trained:MULTI_SHOT",
        "one-shot": f"{__package__}.one_shot:ONE_SHOT",
        "zero-shot": f"{__package__}.screened:ZERO_SHOT",
        "hybrid": f"{__package__}.hybrid:HYBRID",
        "zero-cost": f"{__package__}.zero_cost:ZERO_COST",
    },
)
