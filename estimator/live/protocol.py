"""The measuring protocol: warm-up, interleaved visits, a drift reference, and repetition until the median is certain.

Each item is visited in rounds, in another random order every round, so that slow spells of the device meet all items
alike. Between visits a small reference is run; a visit's latency is divided by how much slower than usual the
reference was around it. With several threads that is not enough, and visits count only where the reference was near
its best before and after (`steadiness.py`). An item is done when the confidence interval of the median of its visits
is narrow enough, or when a cap is reached, which the result then says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
from scipy import stats

from ...common.errors import EstimatorError, InputError
from .drift import Around, Drift, Mark, Runs, Spaced
from .sessions import Session
from .steadiness import Gauge

_SETTLE_MS = 4.0
_STEADY = 0.08
_PATIENCE_MS = 80.0
_FEWEST = 3  # visits in the state that counts, for which all others are left out


@dataclass(frozen=True, slots=True)
class Protocol:
    """How to measure.

    A visit runs an item `warm_up` times unrecorded and for `settle_ms` (in which the system spreads new threads over
    the processors), then at least `runs_per_visit` times and until `visit_us` have passed, but at most
    `max_runs_per_visit` times. Every item gets at least `min_visits` visits, and more until the
    interval of `confidence` around the median of its visits is within ±`tolerance` of it, at most `max_visits`.
    The reference runs after every `reference_every` visits.

    With `steady` above 0 it runs before and after every visit, and only visits count around which it was within that
    share of its best; for each visit the device is granted `patience_ms` on average to come back to that state.
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
    steady: float = 0.0
    patience_ms: float = 0.0

    def __post_init__(self) -> None:
        counts = (self.runs_per_visit, self.min_visits, self.reference_every, self.warm_up + 1)
        if min(counts) < 1 or self.max_visits < self.min_visits or self.max_runs_per_visit < self.runs_per_visit:
            raise InputError("a protocol needs positive counts, and caps that are not below the minima")
        if not (0 < self.tolerance < 1 and 0 < self.confidence < 1 and self.visit_us >= 0):
            raise InputError("tolerance and confidence lie between 0 and 1, and visit_us is not negative")


def settled(protocol: Protocol, threads: int) -> Protocol:
    """The protocol for so many threads of a host whose state has to be watched; several need time to spread out."""
    settle_ms = _SETTLE_MS if threads > 1 else 0.0
    return replace(protocol, settle_ms=settle_ms, steady=_STEADY, patience_ms=_PATIENCE_MS)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one item took.

    `samples_us` are the medians of the visits that count after removal of drift, or of all visits where too few count;
    `raw_us` all runs as they were, visit by visit; `slowdown` the drift that was divided out per visit. `certain` is
    False where the cap ended the measurement.
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
    visits: list[Runs] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


def measure(
    sessions: Mapping[str, Session],
    protocol: Protocol,
    *,
    reference: Gauge | None = None,
    seed: int = 0,
    on_visit: Callable[[str], None] | None = None,
) -> dict[str, Measured]:
    """Measures all sessions together; without a reference no drift is removed, and every visit counts."""
    generator = np.random.default_rng(seed)
    records = {name: _Record() for name in sessions}
    drift = _drift(protocol, reference)
    open_items = list(sessions)
    while open_items:
        for name in generator.permutation(open_items).tolist():
            raw, mark = drift.visit(sessions[name])
            records[name].visits.append(raw)
            records[name].marks.append(mark)
            if on_visit:
                on_visit(name)
        open_items = [name for name in open_items if not _done(records[name], drift, protocol)]
    drift.finish()
    return {name: _measured(record, drift, protocol) for name, record in records.items()}


def median_interval(samples: Sequence[float], confidence: float) -> tuple[float, float]:
    """Distribution-free confidence interval of the median from order statistics.

    Where the samples are too few for `confidence` the interval spans all of them and more: its ends are 0 and ∞.
    """
    ordered, count = sorted(samples), len(samples)
    rank = int(stats.binom.ppf((1 - confidence) / 2, count, 0.5))
    if rank < 1:
        return 0.0, float("inf")
    return ordered[rank - 1], ordered[count - rank]


def _drift(protocol: Protocol, reference: Gauge | None) -> Drift:
    def take(session: Session) -> Runs:
        return _visit(session, protocol)

    if reference and protocol.steady:
        return Around(take, reference, protocol.steady, protocol.patience_ms)
    return Spaced(take, reference.session if reference else None, protocol.reference_every)


def _visit(session: Session, protocol: Protocol) -> Runs:
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
    return tuple(runs)


def _done(record: _Record, drift: Drift, protocol: Protocol) -> bool:
    if len(record.visits) >= protocol.max_visits:
        return True
    return _certain(_samples(record, drift), protocol)


def _certain(samples: Sequence[float], protocol: Protocol) -> bool:
    if len(samples) < protocol.min_visits:
        return False
    low, high = median_interval(samples, protocol.confidence)
    middle = median(samples)
    return high - middle <= protocol.tolerance * middle and middle - low <= protocol.tolerance * middle


def _samples(record: _Record, drift: Drift) -> list[float]:
    """Medians of the visits that count, without drift."""
    judged = [(median(raw), *drift.judge(mark)) for raw, mark in zip(record.visits, record.marks, strict=True)]
    return [latency / factor for latency, factor, counts in judged if counts]


def _measured(record: _Record, drift: Drift, protocol: Protocol) -> Measured:
    samples = _samples(record, drift)
    factors = [drift.judge(mark)[0] for mark in record.marks]
    certain = _certain(samples, protocol)
    if len(samples) < min(_FEWEST, len(record.visits)):
        samples = [median(raw) / factor for raw, factor in zip(record.visits, factors, strict=True)]
    return Measured(tuple(samples), tuple(record.visits), tuple(factors), certain)
