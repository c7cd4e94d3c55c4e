"""What a search spent, and how far its budgets held: counts and seconds as rows of tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ..results import Finalist, SearchResult, TrialRecord
from .source import Source

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Violations:
    """How often predictions were right about the budget.

    trials: distinct networks that were costed, and those of them outside of a limit, by name of the limit.
    measured: finalists that were compiled and timed, all of them inside the budget as predicted; `broken` of them
    missed it. `above` had a latency beyond the predicted upper end.
    """

    trials: int
    outside: int
    by_limit: dict[str, int]
    refused: int
    measured: int
    broken: int
    above: int

    @property
    def rate(self) -> float | None:
        """Share of measured finalists that broke the budget; None when nothing was measured."""
        return self.broken / self.measured if self.measured else None


def violations(result: SearchResult) -> Violations:
    costed = [trial for trial in result.trials if trial.cost is not None]
    missed = [item.name for trial in costed for item in trial.verdict.items if not item.passed]
    measured = [finalist for finalist in result.finalists if finalist.measured is not None]
    return Violations(
        len(costed),
        sum(not trial.feasible for trial in costed),
        {name: missed.count(name) for name in dict.fromkeys(missed)},
        len(result.trials) - len(costed),
        len(measured),
        sum(_broken(finalist, result) for finalist in measured),
        sum(_above(finalist) for finalist in measured),
    )


def spending(source: Source) -> list[Row]:
    """What each kind of work took: wall time, candidates, trainings with epochs and seconds, measurements."""
    result = source.result
    curves = _curves(result)
    stopped = {t.architecture.digest() for t in result.trials if t.stopped} - _whole(result)
    epochs, wasted = sum(map(len, curves.values())), sum(len(curves[digest]) for digest in stopped if digest in curves)
    rows: list[Row] = [("wall time", _wall_time(source))]
    rows.append(("trials", f"{len(result.trials):,} of {source.config.trials:,}"))
    rows.append(("networks scored untrained", f"{len(_distinct(t for t in result.trials if t.scores)):,}"))
    rows.append(("trainings", f"{len(curves):,}, {len(stopped):,} of them stopped early"))
    rows.append(("epochs trained", f"{epochs:,}, {wasted:,} of them in trainings that were stopped"))
    if curves:
        rows.append(("seconds of training", _seconds(source, len(curves))))
    rows.append(("finalists measured", str(sum(f.measured is not None for f in result.finalists))))
    limits = {"trainings": "trainings allowed", "train_seconds": "seconds of training allowed"}
    settings = source.run["config"]
    return rows + [(words, f"{settings[key]:g}") for key, words in limits.items() if settings.get(key) is not None]


def _curves(result: SearchResult) -> dict[str, tuple[float, ...]]:
    """The longest learning curve of every architecture that trained, by digest."""
    curves: dict[str, tuple[float, ...]] = {}
    for trained in (*result.trials, *result.finalists):
        if trained.accuracy is None:
            continue
        digest = trained.architecture.digest()
        if len(trained.curve) >= len(curves.get(digest, ())):
            curves[digest] = trained.curve
    return curves


def _whole(result: SearchResult) -> set[str]:
    """Digests of trainings that ran to their end."""
    trained = [t.architecture.digest() for t in result.trials if t.accuracy is not None and not t.stopped]
    return {*trained, *(f.architecture.digest() for f in result.finalists if f.accuracy is not None)}


def _distinct(trials: Iterable[TrialRecord]) -> set[str]:
    return {trial.architecture.digest() for trial in trials}


def _wall_time(source: Source) -> str:
    started, finished = source.run.get("started"), source.run.get("finished")
    if not started or not finished:
        return "not finished"
    seconds = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
    return f"{seconds:,.0f} s since the last start or resume"


def _seconds(source: Source, trainings: int) -> str:
    known = source.trainings_s
    if not known:
        return "not recorded"
    rest = f", {trainings - len(known)} trainings without a record" if trainings > len(known) else ""
    return f"{sum(known.values()):,.1f}{rest}"


def _broken(finalist: Finalist, result: SearchResult) -> bool:
    return finalist.measured is not None and not finalist.measured.check(result.budget.hardware()).passed


def _above(finalist: Finalist) -> bool:
    predicted = finalist.trial.cost
    assert finalist.measured is not None
    return predicted is not None and finalist.measured.latency_us > predicted.latency_upper_us
