"""What a person wants to know while a search runs: the best so far, how much is feasible, how long it will take."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable

from .results import TrialRecord


class Front:
    """The non-dominated points of (score, latency), score high and latency low, in the order of latency."""

    def __init__(self) -> None:
        self._latencies: list[float] = []
        self._scores: list[float] = []

    def add(self, score: float, latency: float) -> None:
        at = bisect_left(self._latencies, latency)
        if at < len(self._latencies) and self._latencies[at] == latency:
            if self._scores[at] >= score:
                return
        elif at and self._scores[at - 1] >= score:
            return
        end = at
        while end < len(self._latencies) and self._scores[end] <= score:
            end += 1
        self._latencies[at:end], self._scores[at:end] = [latency], [score]

    def __len__(self) -> int:
        return len(self._latencies)

    def hypervolume(self, score: float, latency: float) -> float:
        """The area that the front dominates up to the reference point, the worst (`score`, `latency`) that counts."""
        area, before = 0.0, score
        for fast, high in zip(self._latencies, self._scores, strict=True):
            if fast < latency and high > before:
                area += (high - before) * (latency - fast)
                before = high
        return area


class Tally:
    """Counts finished trials. Its text is for a status line, so it must cost nothing that grows with their number."""

    def __init__(self, records: Iterable[TrialRecord] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._count, self._feasible, self._here = 0, 0, 0
        self._best: TrialRecord | None = None
        self._front, self._corner = Front(), (0.0, 0.0)
        for record in records:
            self._count_in(record)

    def add(self, record: TrialRecord) -> None:
        self._here += 1
        self._count_in(record)

    def text(self, total: int) -> str:
        """One line: best so far, share of feasible trials, hypervolume with two objectives, time to go."""
        if not self._count:
            return ""
        parts = [self._best_text(), f"{self._feasible / self._count:.0%} feasible"]
        if len(self._front):
            parts.append(f"hypervolume {self._front.hypervolume(*self._corner):.3g}")
        remaining = self._remaining_s(total)
        if remaining is not None:
            parts.append(f"{_duration(remaining)} to go")
        return ", ".join(parts)

    def _count_in(self, record: TrialRecord) -> None:
        self._count += 1
        if not record.feasible:
            return
        self._feasible += 1
        if self._best is None or record.values[0] > self._best.values[0]:
            self._best = record
        if len(record.values) == 2:
            score, latency = record.values
            worst = self._corner if len(self._front) else (score, latency)
            self._corner = (min(worst[0], score), max(worst[1], latency))
            self._front.add(score, latency)

    def _best_text(self) -> str:
        if self._best is None:
            return "nothing feasible yet"
        return f"best {self._best.values[0]:.4g} (trial {self._best.index})"

    def _remaining_s(self, total: int) -> float | None:
        if not self._here or self._count >= total:
            return None
        return (self._clock() - self._began) / self._here * (total - self._count)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
