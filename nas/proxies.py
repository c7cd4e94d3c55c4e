"""Zero-shot scores: what a network that was never trained says about itself. Higher is always better.

A score that is not finite (a dead, exploding or constant network) ranks last; it never raises. Scores of
different proxies have different scales, so they are combined by rank within a cohort, never by value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..common.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .response import Response

SIZE_CORRELATION = 0.95  # above this Spearman correlation with MACs a score only measures size
DEFAULT_PROXIES = ("naswot", "synflow", "jacob-cov")
Scores = Mapping[str, float]


class Subject:
    """One untrained network on one minibatch. Proxies share its forward pass and must leave it as they found it.

    `inputs` is (batch, C, H, W) float32; `seed` drives whatever is random in a score, so that equal
    (architecture, seed) pairs give equal scores.
    """

    def __init__(self, module: nn.Module, inputs: Tensor, *, macs: int, seed: int = 0) -> None:
        self.module, self.inputs, self.macs, self.seed = module, inputs, macs, seed

    @cached_property
    def response(self) -> Response:
        """Activation codes and input gradients of one forward and backward pass in training mode."""
        from .response import respond

        return respond(self.module, self.inputs, self.seed)

    @cached_property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())


class Proxy(Protocol):
    """A zero-shot score. `conformance.ProxyConformance` says what each must satisfy."""

    @property
    def name(self) -> str: ...

    def score(self, subject: Subject) -> float:
        """Higher is better; NaN or an infinity marks a degenerate network."""
        ...


class SizeProxy:
    """The logarithm of a size: the yardstick that any real score has to beat."""

    def __init__(self, name: str, size: Callable[[Subject], int]) -> None:
        self.name, self._size = name, size

    def score(self, subject: Subject) -> float:
        return math.log(max(1, self._size(subject)))


PROXIES: Registry[Proxy] = Registry(
    "proxy",
    {
        "naswot": f"{__package__}.linear_regions:NASWOT",
        "jacob-cov": f"{__package__}.linear_regions:JACOB_COV",
        "synflow": f"{__package__}.synflow:SYNFLOW",
        "params": SizeProxy("params", lambda subject: subject.parameters),
        "macs": SizeProxy("macs", lambda subject: subject.macs),
    },
)


def score_all(names: Iterable[str], subject: Subject) -> dict[str, float]:
    """Every named score of `subject`; a degenerate one becomes minus infinity."""
    values = {name: float(PROXIES.get(name).score(subject)) for name in names}
    return {name: value if math.isfinite(value) else -math.inf for name, value in values.items()}


def log_ranks(values: Sequence[float]) -> list[float]:
    """log(rank / n) of every value: 0 for the best, log(1/n) for the worst, ties share their mean rank."""
    from scipy.stats import rankdata

    if not values:
        return []
    clean = [value if not math.isnan(value) else -math.inf for value in values]
    return [float(value) for value in np.log(rankdata(clean, method="average") / len(clean))]


def rank_scores(cohort: Sequence[Scores]) -> list[float]:
    """The combined score of each member: the mean of its log-ranks over all proxies.

    The logarithm punishes a bad rank in one proxy more than it rewards a good one in another. A member
    with a degenerate score gets that proxy's worst rank, not a tie among the degenerate ones.
    """
    if not cohort:
        return []
    names = sorted(cohort[0])
    columns = [log_ranks([member[name] for member in cohort]) for name in names]
    worst = -math.log(len(cohort))
    for name, column in zip(names, columns, strict=True):
        column[:] = [v if member[name] > -math.inf else worst for v, member in zip(column, cohort, strict=True)]
    return [sum(row) / len(names) for row in zip(*columns, strict=True)]


def size_warnings(cohort: Sequence[Scores], macs: Sequence[int]) -> list[str]:
    """One line for each score that orders this cohort as the number of MACs does, so it adds nothing to size."""
    warnings = []
    for name in sorted(cohort[0]) if cohort else ():
        pairs = [(m[name], size) for m, size in zip(cohort, macs, strict=True) if math.isfinite(m[name])]
        if name == "macs" or len({p[0] for p in pairs}) < 3 or len({p[1] for p in pairs}) < 3:
            continue
        rho = _spearman([p[0] for p in pairs], [p[1] for p in pairs])
        if rho > SIZE_CORRELATION:
            found = f"Spearman {rho:.2f} over {len(pairs)} networks"
            warnings.append(f"{name} follows the number of MACs ({found}): it only measures size here")
    return warnings


def _spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation, ties at their mean rank."""
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
