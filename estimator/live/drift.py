"""What a device's drift does to visits: how much slower than usual each of them was, and which of them count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .sessions import Session
from .steadiness import Gauge

Runs: TypeAlias = tuple[float, ...]
Mark: TypeAlias = tuple[float, float]
Take: TypeAlias = Callable[[Session], Runs]


class Drift(Protocol):
    def visit(self, session: Session) -> tuple[Runs, Mark]:
        """All recorded runs of a visit, µs, and what has to be remembered to judge it later."""
        ...

    def judge(self, mark: Mark) -> tuple[float, bool]:
        """How much slower than usual the device was during a visit, as far as is known by now; whether it counts."""
        ...

    def finish(self) -> None:
        """Called after the last visit."""
        ...


class Spaced:
    """The reference runs after every `every` visits; what it shows is smoothed. All visits count."""

    def __init__(self, take: Take, reference: Session | None, every: int) -> None:
        self._take, self._reference, self._every = take, reference, every
        self._seen = 0
        self._readings: list[float] = []
        self._read()

    def visit(self, session: Session) -> tuple[Runs, Mark]:
        raw, place = self._take(session), float(len(self._readings))
        self._seen += 1
        if self._seen % self._every == 0:
            self._read()
        return raw, (place - 1, place)

    def judge(self, mark: Mark) -> tuple[float, bool]:
        slow = slowdowns(self._readings)
        before, after = (float(slow[int(np.clip(place, 0, len(slow) - 1))]) for place in mark)
        return (before + after) / 2, True

    def finish(self) -> None:
        self._read()

    def _read(self) -> None:
        if self._reference:
            self._readings.append(float(np.median(self._take(self._reference))))


class Around:
    """The reference runs before and after every visit; those count around which it was within `tolerance` of its best.

    `patience_ms` is what each visit adds to the time that may be spent waiting for that state.
    """

    def __init__(self, take: Take, gauge: Gauge, tolerance: float, patience_ms: float) -> None:
        self._take, self._gauge, self._tolerance, self._patience_ms = take, gauge, tolerance, patience_ms
        self._last = float("inf")  # the reading after one visit is the one before the next
        gauge.learn()

    def visit(self, session: Session) -> tuple[Runs, Mark]:
        self._gauge.credit_ms += self._patience_ms
        steady = self._last <= (1 + self._tolerance) * self._gauge.best_us
        before = self._last if steady else self._gauge.wait(self._tolerance)
        raw = self._take(session)
        self._last = self._gauge.read()
        return raw, (before, self._last)

    def judge(self, mark: Mark) -> tuple[float, bool]:
        slow = [reading / self._gauge.best_us for reading in mark]
        return sum(slow) / 2, max(slow) <= 1 + self._tolerance

    def finish(self) -> None:
        pass


def slowdowns(reference_us: Sequence[float]) -> NDArray[np.float64]:
    """How much slower than its median the reference was at each of its runs, smoothed over three neighbours."""
    if not reference_us:
        return np.ones(1)
    values = np.asarray(reference_us, np.float64)
    padded = np.concatenate((values[:1], values, values[-1:]))
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 3), axis=1)
    return smooth / np.median(values)
