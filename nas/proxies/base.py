"""What a proxy is, and the wrapper that makes one out of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .subject import Subject

Scores = Mapping[str, float]


class Direction(StrEnum):
    """Whether good networks have a high or a low *published* value; `Proxy.score` is always higher for better."""

    HIGHER = "higher"
    LOWER = "lower"


class Proxy(Protocol):
    """A zero-shot score. `conformance.ProxyConformance` says what each must satisfy."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def source(self) -> str:
        """The paper, with equation or section where there is one."""
        ...

    @property
    def direction(self) -> Direction:
        """Of the published value, for readers who compare figures."""
        ...

    def score(self, subject: Subject) -> float:
        """Higher is better, on a logarithmic scale; NaN or an infinity marks a degenerate network."""
        ...


class ScoreFunction:
    """A proxy whose score is one function of the subject; its docstring's first line is the summary."""

    def __init__(
        self, name: str, source: str, compute: Callable[[Subject], float], direction: Direction = Direction.HIGHER
    ) -> None:
        self.name, self.source, self.direction = name, source, direction
        self.summary = (inspect.getdoc(compute) or name).splitlines()[0]
        self._compute = compute

    def score(self, subject: Subject) -> float:
        """Higher is better; works inside of `torch.no_grad` too, since most scores are gradients."""
        import torch

        with torch.enable_grad():
            return self._compute(subject)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def proxy(
    name: str, source: str, direction: Direction = Direction.HIGHER
) -> Callable[[Callable[[Subject], float]], ScoreFunction]:
    """Decorates a function of a `Subject` into a `ScoreFunction`."""
    return lambda compute: ScoreFunction(name, source, compute, direction)
