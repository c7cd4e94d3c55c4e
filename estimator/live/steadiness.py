"""Whether the device is in the state that counts: a reference network tells, before and after each visit.

Several threads hand work to each other through the caches. In a virtual machine the host moves processors between
cores that share a cache and cores that do not, every few milliseconds or once in minutes, and nothing inside of the
machine says so: small operators then take twice as long on two threads, large ones hardly more, and one thread
notices nothing. No single factor of drift removes that. So visits count where the reference was near its best before
and after them, and a device that is in another state is left idle for a moment, on which a host moves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from .sessions import Session

_WARM_UP, _RUNS = 6, 7  # of the reference for one reading; threads that just began are slow for a few runs
_REST_MS, _LONGER, _LONGEST_MS = 4.0, 1.5, 80.0
_FIRST_READINGS = 60  # before anything is judged


@dataclass
class Gauge:
    """Readings of a reference network in one session, and the best of them: the state that counts.

    `credit_ms` is how long it may still wait for that state, rests and readings: without a bound a device that never
    returns to it could never be measured.
    """

    session: Session
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic  # in seconds, by which waiting is counted
    best_us: float = field(default=float("inf"), init=False)
    credit_ms: float = field(default=0.0, init=False)

    def read(self) -> float:
        """How long the reference takes now: median of a few runs, µs."""
        for _ in range(_WARM_UP):
            self.session.run()
        reading = median(self.session.run() for _ in range(_RUNS))
        self.session.pause()
        self.best_us = min(self.best_us, reading)
        return reading

    def learn(self) -> None:
        """Readings with rests between, once, so that the best state is known before the first visit is judged."""
        if self.best_us == float("inf"):
            for _ in range(_FIRST_READINGS):
                self.read()
                self.sleep(_REST_MS / 1e3)

    def wait(self, tolerance: float) -> float:
        """A reading within `tolerance` of the best, or the first one after the credit is used up, µs."""
        rest, before = _REST_MS, self.clock()
        while (reading := self.read()) > (1 + tolerance) * self.best_us and self.credit_ms > 0:
            self.sleep(min(rest, self.credit_ms) / 1e3)
            rest, now = min(_LONGER * rest, _LONGEST_MS), self.clock()
            self.credit_ms, before = self.credit_ms - 1e3 * (now - before), now
        return reading

    def close(self) -> None:
        self.session.close()
