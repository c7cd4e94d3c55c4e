"""What the figures of a search show, as plain values: tested without a plotting library, drawn by `figures`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .results import Finalist, SearchResult, TrialRecord


@dataclass(frozen=True, slots=True)
class Point:
    """One network in the plane of latency and quality; `measured` tells a timed latency from an estimated one."""

    label: str
    latency_us: float
    quality: float
    measured: bool = False
    feasible: bool = True


@dataclass(frozen=True, slots=True)
class Plane:
    """One panel. `front` are the points that no other beats in both axes, by rising latency.

    `unscored_us` are upper latencies of candidates that were outside of the budget and so never got a quality.
    `references` are networks that the search did not make, such as a baseline.
    """

    quality: str
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    unscored_us: tuple[float, ...] = ()
    budget_us: float | None = None
    floor: float | None = None
    winner: Point | None = None
    references: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One layer of a network: its time and the resource that holds it ("array", "output", "memory", ...)."""

    label: str
    latency_us: float
    bound: str


def pareto_front(points: Iterable[Point]) -> tuple[Point, ...]:
    """The feasible points that no other feasible one beats: less latency at no less quality, or more at no more."""
    front: list[Point] = []
    for point in sorted((p for p in points if p.feasible), key=lambda p: (p.latency_us, -p.quality)):
        if not front or point.quality > front[-1].quality:
            front.append(point)
    return tuple(front)


def screen_plane(result: SearchResult) -> Plane | None:
    """All trials: the plane of accuracies if any of them trained, else that of scores, None without either."""
    return accuracy_plane(result) or score_plane(result)


def accuracy_plane(result: SearchResult) -> Plane | None:
    """Trials that trained, at their estimated latency; None when none did."""
    trained = [trial for trial in result.trials if trial.accuracy is not None]
    if not trained:
        return None
    points = [_trial_point(trial, trial.accuracy) for trial in trained]
    return _trial_plane("validation accuracy", points, result, result.budget.accuracy)


def score_plane(result: SearchResult) -> Plane | None:
    """Trials that were judged untrained, at their estimated latency; None when none was.

    Where a strategy scores no network, what it told the sampler stands in for scores, if that tells trials apart.
    """
    untrained = [trial for trial in result.trials if trial.accuracy is None]
    scored = [trial for trial in untrained if trial.scores]
    quality = "zero-shot score" if scored else "value that was maximised"
    if not scored and len({trial.values[0] for trial in untrained if trial.feasible}) > 1:
        scored = untrained
    points = [_trial_point(trial, trial.values[0]) for trial in scored if trial.feasible]
    return _trial_plane(quality, points, result, None) if scored else None


def _trial_plane(quality: str, points: Sequence[Point], result: SearchResult, floor: float | None) -> Plane:
    unscored = tuple(trial.cost.latency_upper_us for trial in result.trials if trial.cost and not trial.feasible)
    winner = next((p for p in points if result.winner and p.label == _label(result.winner.trial)), None)
    return Plane(quality, tuple(points), pareto_front(points), unscored, result.budget.latency_us, floor, winner)


def finalist_plane(result: SearchResult, references: Sequence[Point] = ()) -> Plane | None:
    """Trained finalists by accuracy, beside `references`; None when nothing was trained.

    A measured finalist appears twice, also at its estimated latency, under the same label.
    """
    trained = [finalist for finalist in result.finalists if finalist.accuracy is not None]
    if not trained:
        return None
    final = [_finalist_point(finalist, measured=finalist.measured is not None) for finalist in trained]
    predicted = [_finalist_point(finalist, measured=False) for finalist in trained if finalist.measured]
    winner = next((p for p in final if result.winner and p.label == _label(result.winner.trial)), None)
    return Plane(
        "validation accuracy",
        (*predicted, *final),
        pareto_front(final),
        (),
        result.budget.latency_us,
        result.budget.accuracy,
        winner,
        tuple(references),
    )


def slowest(layers: Sequence[LayerTime], count: int) -> list[LayerTime]:
    """The `count` slowest layers in execution order, the rest summed up as one more entry."""
    kept = sorted(range(len(layers)), key=lambda i: -layers[i].latency_us)[:count]
    shown = [layers[i] for i in sorted(kept)]
    rest = [layers[i].latency_us for i in range(len(layers)) if i not in kept]
    return [*shown, LayerTime(f"{len(rest)} others", sum(rest), "")] if rest else shown


def _trial_point(trial: TrialRecord, quality: float | None) -> Point:
    assert trial.cost is not None
    assert quality is not None
    return Point(_label(trial), trial.cost.latency_us, quality, feasible=trial.feasible and not trial.stopped)


def _finalist_point(finalist: Finalist, *, measured: bool) -> Point:
    cost = finalist.cost if measured else finalist.trial.cost
    assert cost is not None
    assert finalist.accuracy is not None
    return Point(_label(finalist.trial), cost.latency_us, finalist.accuracy, measured, finalist.verdict.passed)


def _label(trial: TrialRecord) -> str:
    return f"trial {trial.index}"
