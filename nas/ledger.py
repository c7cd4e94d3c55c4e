"""`Ledger`: what a search has spent on training and on choosing what to train, against what it may spend."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median


@dataclass
class Ledger:
    """Trainings by architecture digest with their processor seconds, and what other stages took.

    A training's seconds begin where the entry before it ended: finding, costing and compiling the network are counted
    with it. What comes before a search (reading its estimator, curating its space) is its caller's to count.

    `most` and `most_seconds` None mean no limit.

    A resumed search enters stored trainings with the seconds they took then, so that it decides as before.
    """

    most: int | None = None
    most_seconds: float | None = None
    _seconds: dict[str, float] = field(default_factory=dict)
    _charges: dict[str, float] = field(default_factory=dict)

    def enter(self, digest: str, seconds: float) -> None:
        """Counts a training; one that is known already counts once."""
        self._seconds.setdefault(digest, seconds)

    def charge(self, stage: str, seconds: float) -> None:
        """Counts a stage other than a training; one that is known already counts once."""
        self._charges.setdefault(stage, seconds)

    @property
    def charges(self) -> dict[str, float]:
        """Processor seconds by stage, trainings apart."""
        return dict(self._charges)

    @property
    def trainings(self) -> int:
        return len(self._seconds)

    @property
    def seconds(self) -> float:
        return sum(self._seconds.values()) + sum(self._charges.values())

    @property
    def open(self) -> bool:
        """True while another training may begin."""
        return self.left(self.trainings + 1) > 0

    @property
    def limited(self) -> bool:
        return self.most is not None or self.most_seconds is not None

    def left(self, default: int) -> int:
        """How many trainings may still begin; `default` in all where nothing is limited.

        Under a limit of seconds: as many as would fit if they took as long as the median so far, before the
        first, as many as `most` says, or one.
        """
        allowed = [] if self.limited else [default - self.trainings]
        if self.most is not None:
            allowed.append(self.most - self.trainings)
        if self.most_seconds is not None and (self._seconds or self.most is None):
            allowed.append(self._fitting(self.most_seconds - self.seconds))
        return max(0, min(allowed))

    def _fitting(self, seconds: float) -> int:
        if not self._seconds:
            return 1
        typical = median(self._seconds.values())
        return int(seconds / typical) if typical > 0 else int(seconds > 0)
