"""The measuring protocol: warm-up, interleaved visits, a drift reference, and repetition until the median is certain.

Each item is visited in rounds, in another random order every round, so that slow spells of the device meet all items
alike. Between visits a small reference is run; a visit's latency is divided by how much slower than usual the
reference was around it. An item is done when the confidence interval of the median of its visits is narrow enough,
or when a cap is reached, which the result then says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...common.errors import EstimatorError, InputError
from .sessions import Session

_SETTLE_MS = 30.0


@dataclass(frozen=True, slots=True)
class Protocol:
    """How to measure.

    A visit runs an item `warm_up` times unrecorded and for `settle_ms` (in which the system spreads new threads over
    the processors), then at least `runs_per_visit` times and until `visit_us` have passed, but at most
    `max_runs_per_visit` times. Every item gets at least `min_visits` visits, and more until the
    interval of `confidence` around the median of its visits is within ±`tolerance` of it, at most `max_visits`.
    The reference runs after every `reference_every` visits.
    """

    warm_up: int = 2
    runs_per_visit: int = 5
    max_runs_per_visit: int = 200
    visit_us: float = 5_000.0
    min_visits: int = 5
    max_visits: int = 15
    tolerance: float = 0.02
    confidence: float = 0.90
    reference_every: int = 4
    settle_ms: float = 0.0

    def __post_init__(self) -> None:
        counts = (self.runs_per_visit, self.min_visits, self.reference_every, self.warm_up + 1)
        if min(counts) < 1 or self.max_visits < self.min_visits or self.max_runs_per_visit < self.runs_per_visit:
            raise InputError("a protocol needs positive counts, and caps that are not below the minima")
        if not (0 < self.tolerance < 1 and 0 < self.confidence < 1 and self.visit_us >= 0):
            raise InputError("tolerance and confidence lie between 0 and 1, and visit_us is not negative")


def settled(protocol: Protocol, threads: int) -> Protocol:
    """The protocol for so many threads: several get the time that a system takes to spread them over processors."""
    return replace(protocol, settle_ms=_SETTLE_MS if threads > 1 else 0.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one item took.

    `samples_us` are the medians of its visits after removal of drift, `raw_us` all runs as they were, visit by visit,
    `slowdown` the drift that was divided out per visit. `certain` is False where the cap ended the measurement.
    """

    samples_us: tuple[float, ...]
    raw_us: tuple[tuple[float, ...], ...]
    slowdown: tuple[float, ...]
    certain: bool

    @property
    def latency_us(self) -> float:
        """Median of the visits, in µs."""
        return median(self.samples_us)


@dataclass
class _Record:
    visits: list[tuple[float, ...]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # how many reference runs came before each visit


def measure(
    sessions: Mapping[str, Session],
    protocol: Protocol,
    *,
    reference: Session | None = None,
    seed: int = 0,
    on_visit: Callable[[str], None] | None = None,
) -> dict[str, Measured]:
    """Measures all sessions together; without a reference no drift is removed."""
    generator = np.random.default_rng(seed)
    records = {name: _Record() for name in sessions}
    drift: list[float] = [_visit(reference, protocol)[1]] if reference else []
    seen = 0
    open_items = list(sessions)
    while open_items:
        for name in generator.permutation(open_items).tolist():
            raw, _ = _visit(sessions[name], protocol)
            records[name].visits.append(raw)
            records[name].places.append(len(drift))
            seen += 1
            if reference and seen % protocol.reference_every == 0:
                drift.append(_visit(reference, protocol)[1])
            if on_visit:
                on_visit(name)
        slow = slowdowns(drift)
        open_items = [name for name in open_items if not _done(records[name], slow, protocol)]
    if reference:
        drift.append(_visit(reference, protocol)[1])
    slow = slowdowns(drift)
    return {name: _measured(record, slow, protocol) for name, record in records.items()}


def slowdowns(reference_us: Sequence[float]) -> NDArray[np.float64]:
    """How much slower than its median the reference was at each of its runs, smoothed over three neighbours."""
    if not reference_us:
        return np.ones(1)
    values = np.asarray(reference_us, np.float64)
    padded = np.concatenate((values[:1], values, values[-1:]))
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 3), axis=1)
    return smooth / np.median(values)


def median_interval(samples: Sequence[float], confidence: float) -> tuple[float, float]:
    """Distribution-free confidence interval of the median from order statistics.

    Where the samples are too few for `confidence` the interval spans all of them and more: its ends are 0 and ∞.
    """
    ordered, count = sorted(samples), len(samples)
    rank = int(stats.binom.ppf((1 - confidence) / 2, count, 0.5))
    if rank < 1:
        return 0.0, float("inf")
    return ordered[rank - 1], ordered[count - rank]


def _visit(session: Session, protocol: Protocol) -> tuple[tuple[float, ...], float]:
    """All recorded runs of one visit, and their median."""
    until = time.monotonic() + protocol.settle_ms / 1e3
    for _ in range(protocol.warm_up):
        session.run()
    while time.monotonic() < until:
        session.run()
    runs: list[float] = []
    total = 0.0
    while len(runs) < protocol.runs_per_visit or (
        total < protocol.visit_us and len(runs) < protocol.max_runs_per_visit
    ):
        latency = session.run()
        if not (np.isfinite(latency) and latency > 0):
            raise EstimatorError(f"a run took {latency} µs", hint="the clock of the device cannot be trusted")
        runs.append(latency)
        total += latency
    session.pause()
    return tuple(runs), median(runs)


def _done(record: _Record, slow: NDArray[np.float64], protocol: Protocol) -> bool:
    count = len(record.visits)
    if count < protocol.min_visits:
        return False
    return count >= protocol.max_visits or _certain(_corrected(record, slow)[0], protocol)


def _certain(samples: Sequence[float], protocol: Protocol) -> bool:
    low, high = median_interval(samples, protocol.confidence)
    middle = median(samples)
    return high - middle <= protocol.tolerance * middle and middle - low <= protocol.tolerance * middle


def _corrected(record: _Record, slow: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Visits without drift, and the drift of each: the mean of the reference runs before and after it."""
    last = len(slow) - 1
    factors = [float(slow[max(min(p - 1, last), 0)] + slow[min(p, last)]) / 2 for p in record.places]
    return [median(raw) / factor for raw, factor in zip(record.visits, factors, strict=True)], factors


def _measured(record: _Record, slow: NDArray[np.float64], protocol: Protocol) -> Measured:
    samples, factors = _corrected(record, slow)
    return Measured(tuple(samples), tuple(record.visits), tuple(factors), _certain(samples, protocol))
