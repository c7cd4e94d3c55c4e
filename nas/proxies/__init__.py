"""Zero-shot scores: what a network that was never trained says about itself. Higher is always better.

    subject = Subject(module, images, macs=macs, labels=labels, seed=0, device="cpu")  # proxies.subject
    scores = score_all(DEFAULT_PROXIES, subject)        # {"naswot": 12.1, ...}; -inf for a degenerate network
    ranks = rank_scores([scores, ...])                  # one value per member of a cohort, relative to it
    scale = ScoreScale.of(sample); scale.value(scores)  # a value that stays, for a sampler
    size_warnings(cohort, macs)                         # which scores only measure size here; with labels:
    blind_warnings(cohort, accuracies, macs)            # which say nothing at equal size
    pick_combination(scores, accuracies).weights        # for rank_scores(cohort, weights): from some trained labels

A score that is not finite (a dead, exploding or constant network) ranks last; it never raises. Scores of
different proxies have different scales, so they are combined by rank within a cohort, never by value.

Files: `base` what a proxy is; `subject` a network with its shared passes (`trace` forward, `gradients` backward,
`dataflow` and `block_passes` where blocks end and what they say, `ledger` what each score costs); the scores in
`linear_regions`, `synflow`, `saliency`, `blocks`, `perturbation`, `size`; `combine` ranks and scales, `selfcheck` size,
`choice` weights from labels; `conformance` the exam. Values are remembered by `nas.score_cache`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...common.registry import Registry
from .base import Direction, Proxy, ScoreFunction, Scores, proxy
from .choice import Combination
from .choice import pick_combination as _pick_combination
from .combine import ScoreScale, log_ranks, rank_scores
from .selfcheck import SizeControlled, blind_warnings, size_controlled, size_share, size_warnings

if TYPE_CHECKING:
    from .subject import Subject

__all__ = [
    "DEFAULT_PROXIES", "PROXIES", "Combination", "Direction", "Proxy", "ScoreFunction", "ScoreScale", "Scores",
    "SizeControlled", "blind_warnings",
    "log_ranks", "pick_combination", "proxy", "rank_scores", "score_all", "size_controlled",
    "size_share", "size_warnings", "timed_scores",
]  # fmt: skip

DEFAULT_PROXIES = ("isometry", "jacob-cov", "meco", "synflow")  # one of each kind, see docs/proxies.md

PROXIES: Registry[Proxy] = Registry(
    "proxy",
    {
        "complexity": f"{__package__}.size:complexity",
        "expressivity": f"{__package__}.blocks:expressivity",
        "fisher": f"{__package__}.saliency:fisher",
        "grad-norm": f"{__package__}.saliency:grad_norm",
        "grasp": f"{__package__}.saliency:grasp",
        "isometry": f"{__package__}.blocks:isometry",
        "jacob-cov": f"{__package__}.linear_regions:jacob_cov",
        "macs": f"{__package__}.size:macs",
        "meco": f"{__package__}.perturbation:meco",
        "naswot": f"{__package__}.linear_regions:naswot",
        "params": f"{__package__}.size:params",
        "progressivity": f"{__package__}.blocks:progressivity",
        "snip": f"{__package__}.saliency:snip",
        "swap": f"{__package__}.linear_regions:swap",
        "synflow": f"{__package__}.synflow:synflow",
        "trainability": f"{__package__}.blocks:trainability",
        "zen": f"{__package__}.perturbation:zen",
        "zico": f"{__package__}.saliency:zico",
    },
)


def score_all(names: Iterable[str], subject: Subject) -> dict[str, float]:
    """Every named score of `subject`; a degenerate one becomes minus infinity."""
    values = {name: _score(name, subject) for name in names}
    return {name: value if math.isfinite(value) else -math.inf for name, value in values.items()}


def timed_scores(names: Iterable[str], subject: Subject) -> tuple[dict[str, float], dict[str, float]]:
    """`score_all`, and the seconds that each score would have cost by itself; `subject.ledger` has them together."""
    scores = score_all(names, subject)
    return scores, {name: subject.ledger.seconds_of(f"score of {name}") for name in scores}


def pick_combination(scores: Sequence[Scores], labels: Sequence[float], *, seed: int = 0) -> Combination:
    """Weights for `rank_scores` from the labels of trained networks, see `choice.pick_combination`.

    The default is the mean of those of `DEFAULT_PROXIES` that `scores` hold, or of all where they hold none.
    """
    held = [name for name in DEFAULT_PROXIES if scores and name in scores[0]]
    return _pick_combination(scores, labels, held or list(scores[0] if scores else DEFAULT_PROXIES), seed=seed)


def _score(name: str, subject: Subject) -> float:
    found = PROXIES.get(name)
    with subject.ledger.section(f"score of {name}"):
        return float(found.score(subject))
