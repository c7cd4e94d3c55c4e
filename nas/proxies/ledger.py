"""What each score costs alone although scores share passes: seconds by section, and who needed whom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Ledger:
    """Sections of work, exclusive of each other. Seconds are processor seconds over all threads, or wall-clock
    seconds where the processor only waits for a device."""

    def __init__(self, *, wall: bool = False) -> None:
        self._now = time.perf_counter if wall else time.process_time
        self._seconds: dict[str, float] = {}
        self._needs: dict[str, set[str]] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Time spent inside goes to `name`, and to nobody else. Whoever is open needs `name` from now on."""
        self.need(name)
        self._stop()
        self._open.append(name)
        try:
            yield
        finally:
            self._stop()
            self._open.pop()

    def need(self, name: str) -> None:
        """The open section uses the result of `name`, perhaps one that somebody else computed."""
        self._needs.setdefault(name, set())
        if self._open:
            self._needs[self._open[-1]].add(name)

    def seconds_of(self, name: str) -> float:
        """What `name` would have cost by itself: its own section and everything that it needs."""
        return sum(self._seconds.get(part, 0.0) for part in self._closure(name))

    @property
    def total_seconds(self) -> float:
        return sum(self._seconds.values())

    def _closure(self, name: str) -> set[str]:
        found, waiting = set[str](), [name]
        while waiting:
            part = waiting.pop()
            if part not in found:
                found.add(part)
                waiting += self._needs.get(part, ())
        return found

    def _stop(self) -> None:
        """Books the time since the last change on the innermost section."""
        now = self._now()
        if self._open:
            self._seconds[self._open[-1]] = self._seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now
