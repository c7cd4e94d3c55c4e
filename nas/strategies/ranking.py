"""The order in which a screened cohort is trained."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import TrialRecord
from ..session import knob_difference

MIN_DIFFERENCE = 2  # knobs in which finalists differ: training near-twins teaches nothing
FEW_KNOBS = 8  # where there are no more, one of them makes another network


def ranked(cohort: Sequence[TrialRecord], ranks: Sequence[float]) -> list[tuple[TrialRecord, float]]:
    """Records with their ranks, best first; near-twins of a better one at the end, degenerate networks after them."""
    order = sorted(range(len(cohort)), key=lambda i: (-ranks[i], cohort[i].index))
    return _spread([(cohort[i], ranks[i]) for i in order])


def _spread(ranking: Sequence[tuple[TrialRecord, float]]) -> list[tuple[TrialRecord, float]]:
    chosen: list[tuple[TrialRecord, float]] = []
    twins: list[tuple[TrialRecord, float]] = []
    for record, rank in ranking:
        near = any(_alike(record, other) for other, _ in chosen)
        (twins if near or record.degenerate else chosen).append((record, rank))
    return chosen + sorted(twins, key=lambda item: item[0].degenerate)


def _alike(a: TrialRecord, b: TrialRecord) -> bool:
    """Nearly the same knobs; or the same scores to the last digit, which networks of one function have that different
    knobs describe."""
    least = MIN_DIFFERENCE if len(a.architecture.knobs) > FEW_KNOBS else 1
    near = knob_difference(a.architecture, b.architecture) < least
    return near or (len(a.scores) > 0 and a.scores == b.scores)
