"""Planes and landscape of a search with few enough points to draw."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..report_data import Plane, accuracy_plane, finalist_plane, score_plane
from ..results import SearchResult
from .thinning import spread, thin

_MOST_UNSCORED = 1000


@dataclass(frozen=True, slots=True)
class DrawnPlane:
    """A plane whose points are thinned: `total` is how many there were."""

    key: str
    title: str
    plane: Plane
    total: int


@dataclass(frozen=True, slots=True)
class Landscape:
    """Predicted latency over MACs of every candidate that has a cost, thinned out of `total`."""

    points: tuple[tuple[int, float, bool], ...]
    total: int
    budget_us: float | None


def planes(result: SearchResult) -> list[DrawnPlane]:
    """Those of the three planes that this search can fill: untrained scores, accuracies of trials, finalists."""
    made = (
        ("pareto-score", "Screened networks", score_plane(result)),
        ("pareto-accuracy", "Networks trained as trials", accuracy_plane(result)),
        ("pareto-finalists", "Finalists", finalist_plane(result)),
    )
    return [DrawnPlane(key, title, _thin(plane), _count(plane)) for key, title, plane in made if plane]


def landscape(result: SearchResult) -> Landscape | None:
    costed = [(trial.cost, trial.feasible) for trial in result.trials if trial.cost is not None]
    if not costed:
        return None
    kept = thin([cost.macs for cost, _ in costed], [cost.latency_us for cost, _ in costed])
    points = tuple((costed[i][0].macs, costed[i][0].latency_us, costed[i][1]) for i in kept)
    return Landscape(points, len(costed), result.budget.latency_us)


def _count(plane: Plane) -> int:
    return len(plane.points) + len(plane.unscored_us)


def _thin(plane: Plane) -> Plane:
    front = {point.label for point in (*plane.front, *([plane.winner] if plane.winner else []))}
    keep = [i for i, point in enumerate(plane.points) if point.label in front]
    kept = thin([point.latency_us for point in plane.points], [point.quality for point in plane.points], keep)
    unscored = sorted(plane.unscored_us)
    return replace(
        plane,
        points=tuple(plane.points[i] for i in kept),
        unscored_us=tuple(unscored[i] for i in spread(len(unscored), _MOST_UNSCORED)),
    )
