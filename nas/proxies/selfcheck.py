"""Does a score know more than the size of a network?

Larger networks are mostly better, so a proxy that only counts correlates well and helps nobody who compares
networks of equal cost. Two checks, on ranks throughout:

- without labels: how much of a score's order is explained by the sizes alone (`size_share`);
- with labels: its correlation with them at equal size (`size_controlled`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .base import Scores

SIZE_SHARE = 0.9  # above this share of a score's rank variance, it orders networks as their sizes do
GROUP = 5  # fewest networks of equal size that are compared with each other
_SIZES = ("params", "macs", "complexity")

Floats = NDArray[np.float64]
Size = Sequence[float]


@dataclass(frozen=True, slots=True)
class SizeControlled:
    """Spearman correlation at equal size.

    `method` "groups": mean over groups of networks of the same sizes, weighted by their members, 0 for a group that
    the score does not order; "partial": the correlation of what a quadratic in the ranks of the sizes leaves of both
    ranks, where sizes hardly ever repeat. `count` networks were compared. NaN where nothing can be compared.
    """

    value: float
    method: str
    count: int


def size_controlled(scores: Sequence[float], labels: Sequence[float], *sizes: Size) -> SizeControlled:
    """How well `scores` order `labels` among networks of the same size.

    `sizes`: one or more values per network, such as parameters, or numbers of operators of each kind. Groups of
    equal sizes are used when at least half of the networks lie in one of five or more, a partial correlation otherwise.
    """
    ranked, truth = _ranks(scores), np.asarray(labels, np.float64)
    keys, group = np.unique(np.array(sizes, np.float64), axis=1, return_inverse=True)
    members = [np.flatnonzero(group == index) for index in range(keys.shape[1])]
    large = [rows for rows in members if len(rows) >= GROUP]
    count = sum(len(rows) for rows in large)
    if 2 * count < len(ranked):
        return SizeControlled(_partial(ranked, truth, sizes), "partial", len(ranked))
    told = [rows for rows in large if np.ptp(truth[rows]) > 0]
    total = sum(len(rows) for rows in told)
    found = sum(_order_or_none(ranked[rows], truth[rows]) * len(rows) for rows in told)
    return SizeControlled(found / total if total else math.nan, "groups", total)


def size_share(scores: Sequence[float], *sizes: Size) -> float:
    """The part of the variance of a score's ranks that a quadratic in the ranks of the sizes explains, 0 to 1."""
    ranked = _ranks(scores)
    spread = float(np.var(ranked))
    return 1 - float(np.var(_without_size(ranked, sizes))) / spread if spread > 0 else math.nan


def size_warnings(cohort: Sequence[Scores], macs: Sequence[float], parameters: Size | None = None) -> list[str]:
    """One line for each score that orders this cohort as its sizes do, so that it adds nothing to them."""
    sizes = [macs] if parameters is None else [macs, parameters]
    warnings = []
    for name in sorted(cohort[0]) if cohort else ():
        rows = [index for index, member in enumerate(cohort) if math.isfinite(member[name])]
        values, known = [cohort[i][name] for i in rows], [[size[i] for i in rows] for size in sizes]
        if name in _SIZES or len(set(values)) < 3 or len(set(known[0])) < 3 or len(rows) <= 1 + 2 * len(sizes):
            continue
        share = size_share(values, *known)
        if share > SIZE_SHARE and spearman(values, known[0]) > 0:
            found = f"{share:.0%} of its order over {len(rows)} networks follows from it"
            warnings.append(f"{name} only measures size here: {found}")
    return warnings


def blind_warnings(cohort: Sequence[Scores], labels: Sequence[float], *sizes: Size) -> list[str]:
    """One line for each score that orders the labels well, but not among networks of equal size.

    Well: beyond two standard errors of a rank correlation, 1/√n, of all networks and of those that were compared.
    """
    warnings = []
    for name in sorted(cohort[0]) if cohort else ():
        values = [member[name] for member in cohort]
        plain, equal = spearman(values, labels), size_controlled(values, labels, *sizes)
        if name in _SIZES or math.isnan(equal.value) or not plain > 2 / math.sqrt(len(values)):
            continue
        if equal.value < 2 / math.sqrt(equal.count):
            found = f"Spearman {plain:.2f} with the labels, {equal.value:.2f} at equal size"
            warnings.append(f"{name} only measures size here: {found}")
    return warnings


def spearman(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> float:
    """Rank correlation, ties at their mean rank; NaN where one side is constant or there are fewer than two."""
    left, right = _ranks(a), _ranks(b)
    if len(left) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return math.nan
    return float(np.corrcoef(left, right)[0, 1])


def _order_or_none(ranked: Floats, truth: Floats) -> float:
    """Spearman where the labels differ; a score that is constant orders nothing, which is a correlation of 0."""
    return spearman(ranked, truth) if np.ptp(ranked) > 0 else 0.0


def _partial(ranked: Floats, truth: Floats, sizes: Sequence[Size]) -> float:
    a, b = _without_size(ranked, sizes), _without_size(_ranks(truth), sizes)
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 1e-9 * len(a) else math.nan


def _without_size(ranked: Floats, sizes: Sequence[Size]) -> Floats:
    """What remains of centred ranks after a least-squares quadratic in the ranks of every size."""
    terms = [np.ones(len(ranked))]
    for size in sizes:
        unit = _ranks(size) / len(ranked)
        terms += [unit, unit**2]
    design = np.stack(terms, axis=1)
    return ranked - design @ np.linalg.lstsq(design, ranked, rcond=None)[0]


def _ranks(values: Sequence[float] | Floats) -> Floats:
    from scipy.stats import rankdata

    clean = [value if not math.isnan(value) else -math.inf for value in map(float, values)]
    return np.asarray(rankdata(clean, method="average"), np.float64)
