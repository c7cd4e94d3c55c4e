"""How a search went: best value so far, hypervolume and share of feasible trials, over the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..progress import Front
from ..results import TrialRecord
from .thinning import spread, thin

_MOST_STEPS = 400


@dataclass(frozen=True, slots=True)
class Line:
    """A step line: from trial `at[i]` on the value is `values[i]`."""

    at: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class History:
    """`seen` are the values of feasible trials, thinned out of `total`; `best` the best so far.

    `hypervolume` is the area of (value, upper latency in us) that feasible trials dominate up to `corner`, the worst
    feasible value and the latency budget or else the longest feasible latency.
    """

    seen: Line
    total: int
    best: Line
    hypervolume: Line
    corner: tuple[float, float]
    feasible: Line


def history(trials: Sequence[TrialRecord], budget_us: float | None) -> History | None:
    """None when no trial is feasible."""
    feasible = [trial for trial in trials if trial.feasible and not trial.stopped and trial.cost]
    if not feasible:
        return None
    corner = (min(t.values[0] for t in feasible), budget_us or max(_latency(t) for t in feasible))
    at, values = [t.index for t in feasible], [t.values[0] for t in feasible]
    kept = thin(at, values)
    seen = Line(tuple(at[i] for i in kept), tuple(values[i] for i in kept))
    return History(seen, len(feasible), _best(feasible), _area(feasible, corner), corner, _share(trials))


def _best(feasible: Sequence[TrialRecord]) -> Line:
    at: list[int] = []
    values: list[float] = []
    for trial in feasible:
        if not values or trial.values[0] > values[-1]:
            at.append(trial.index)
            values.append(trial.values[0])
    return _until(at, values, feasible[-1].index)


def _area(feasible: Sequence[TrialRecord], corner: tuple[float, float]) -> Line:
    front = Front()
    at: list[int] = []
    values: list[float] = []
    shown = {feasible[i].index for i in spread(len(feasible), _MOST_STEPS)}
    for trial in feasible:
        front.add(trial.values[0], _latency(trial))
        if trial.index in shown:
            at.append(trial.index)
            values.append(front.hypervolume(*corner))
    return _until(at, values, feasible[-1].index)


def _share(trials: Sequence[TrialRecord]) -> Line:
    shown = set(spread(len(trials), _MOST_STEPS).tolist())
    at: list[int] = []
    values: list[float] = []
    count = 0
    for position, trial in enumerate(trials):
        count += trial.feasible
        if position in shown:
            at.append(trial.index)
            values.append(count / (position + 1))
    return Line(tuple(at), tuple(values))


def _until(at: list[int], values: list[float], last: int) -> Line:
    return Line((*at, last), (*values, values[-1])) if at[-1] != last else Line(tuple(at), tuple(values))


def _latency(trial: TrialRecord) -> float:
    assert trial.cost is not None
    return trial.cost.latency_upper_us
