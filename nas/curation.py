"""Curation: the few channel counts worth considering on an engine, found by evaluating its latency.

Latency over the number of channels is a staircase: lanes work in blocks, and a block that is begun is paid for.
On one step the largest count is the only one worth having, since every smaller one costs the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, UnsupportedError
from ..common.units import cycles_to_us
from ..models.architecture import Knob, KnobValue
from ..targets.cost import conv_work
from ..targets.spec import EngineSpec
from .bridge import to_graph
from .space import Space

if TYPE_CHECKING:
    from ..models.family import Family

Latency = Callable[[int], float]
NOTICEABLE = 0.5  # a step ahead at least half as steep as its surroundings makes a count the edge of its step
_PROBE_ROWS = _PROBE_COLS = 16
_CHANNELS, _CLASSES = 3, 10  # of networks that only show what the engine has operators for


@dataclass(frozen=True, slots=True)
class Dropped:
    """A value that is not worth considering, and why, in one sentence."""

    value: KnobValue
    reason: str


@dataclass(frozen=True, slots=True)
class KnobCuration:
    """What became of one knob. `roughness` is the spread of latency per channel over its mean: 0 for a straight line.

    `utilisation` is the mean share of the array's lanes that work on the probe at the values of the knob.
    """

    knob: str
    kept: tuple[KnobValue, ...]
    dropped: tuple[Dropped, ...] = ()
    roughness_before: float | None = None
    roughness_after: float | None = None
    utilisation_before: float | None = None
    utilisation_after: float | None = None


@dataclass(frozen=True, slots=True)
class CurationReport:
    """What curation did to a space; serialisable."""

    target: str
    cardinality_before: int
    cardinality_after: int
    knobs: tuple[KnobCuration, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def channel_latency(spec: EngineSpec) -> Latency:
    """Microseconds of two dense 1×1 convolutions, one producing and one consuming the channels.

    The other side is four blocks wide, so that the array and not the output stage holds the time.
    """
    other = 4 * spec.channel_multiple

    def latency_us(channels: int) -> float:
        return cycles_to_us(_cycles(spec, other, channels) + _cycles(spec, channels, other), spec.clock_mhz)

    return latency_us


def channel_utilisation(spec: EngineSpec, channels: int) -> float:
    """Share of the array's multiply-accumulates that do useful work on the probe of `channel_latency`."""
    other = 4 * spec.channel_multiple
    ideal = 2 * _PROBE_ROWS * _PROBE_COLS * channels * other / (spec.parallelism * spec.int8_rate)
    return ideal / (_cycles(spec, other, channels) + _cycles(spec, channels, other))


def curate(
    space: Space, spec: EngineSpec, latency: Latency | None = None, *, leave: Collection[str] = ()
) -> tuple[Space, CurationReport]:
    """`space` with every knob of kind "channels" cut down to the right edges of the latency staircase.

    `latency` maps a channel count to microseconds; without one the closed form of `channel_latency` is evaluated.
    A knob of kind "multiplier" keeps 1 only, since any other factor would move the channels off their edges, and one of
    kind "block" what the engine has operators for.
    Knobs in `leave`, which the user narrowed by hand, stay as they are.
    """
    measure = latency or channel_latency(spec)
    reports: list[KnobCuration] = []
    for knob in (knob for knob in space.knobs if knob.name not in leave):
        if knob.kind == "channels":
            report = curate_values(knob.name, [int(value) for value in knob.values], measure)
            reports.append(_with_utilisation(report, spec))
        elif knob.kind == "multiplier" and 1 in knob.values:
            reports.append(_without_scaling(knob))
        elif knob.kind == "block" and (refused := unsupported_values(space.family, knob)):
            kept = tuple(value for value in knob.values if value not in refused)
            reports.append(KnobCuration(knob.name, kept, tuple(Dropped(v, why) for v, why in refused.items())))
    curated = space.restrict({report.knob: report.kept for report in reports}, where=f"curation for {spec.name}")
    return curated, CurationReport(spec.name, space.cardinality(), curated.cardinality(), tuple(reports))


def runnable(space: Space) -> Space:
    """`space` without the values that no operator of an engine computes."""
    kept: dict[str, list[KnobValue]] = {}
    for knob in space.knobs:
        refused = unsupported_values(space.family, knob) if knob.kind == "block" else {}
        if refused:
            kept[knob.name] = [value for value in knob.values if value not in refused]
    return space.restrict(kept, where="the engine's operators")


def unsupported_values(family: Family, knob: Knob) -> dict[KnobValue, str]:
    """The values with which the family's middle architecture cannot run on an engine, and why."""
    refused: dict[KnobValue, str] = {}
    for value in knob.values:
        architecture = family.canonicalise(family.middle().with_values(**{knob.name: value}))
        try:
            to_graph(family.layers(architecture, input_channels=_CHANNELS, classes=_CLASSES))
        except UnsupportedError as error:
            refused[value] = error.what
    return refused


def curate_values(knob: str, values: Sequence[int], latency: Latency) -> KnobCuration:
    """Keeps each value whose next larger neighbour costs noticeably more per channel, and always the largest.

    0, by which a knob leaves its layer out, is kept as it is.
    """
    counts = sorted({value for value in values if value})
    if not counts or counts[0] < 0:
        raise ConfigError(f"no positive channel count among {list(values)}", where=knob)
    times = [latency(count) for count in counts]
    kept = [i for i in range(len(counts)) if _is_edge(counts, times, i)]
    dropped = []
    for i, count in enumerate(counts):
        if i not in kept:
            edge = next(k for k in kept if k > i)
            dropped.append(Dropped(count, _reason(count, counts[edge], times[i], times[edge])))
    edges = [counts[i] for i in kept]
    off = [0] if 0 in values else []
    before, after = roughness(counts, times), roughness(edges, [times[i] for i in kept])
    return KnobCuration(knob, (*off, *edges), tuple(dropped), before, after)


def _reason(count: int, edge: int, time: float, edge_time: float) -> str:
    return f"{edge} channels do {edge / count - 1:.0%} more for {edge_time / time - 1:.0%} more time"


def _is_edge(values: Sequence[int], times: Sequence[float], i: int) -> bool:
    """Compares the step ahead with the slope over it and one interval to either side, so a constant part of
    the latency cancels and a curve that only grows steeper keeps all of its values."""
    if i == len(values) - 1:
        return True
    low, high = max(0, i - 1), min(len(values) - 1, i + 2)
    ahead = (times[i + 1] - times[i]) / (values[i + 1] - values[i])
    around = (times[high] - times[low]) / (values[high] - values[low])
    return ahead > 0 and ahead >= NOTICEABLE * around


def roughness(values: Sequence[int], times: Sequence[float]) -> float:
    """Coefficient of variation of the latency per added channel; 0 below three values or for a flat line."""
    slopes = [(times[i + 1] - times[i]) / (values[i + 1] - values[i]) for i in range(len(values) - 1)]
    mean = fmean(slopes) if slopes else 0.0
    return pstdev(slopes) / mean if mean > 0 else 0.0


def _cycles(spec: EngineSpec, channels_in: int, channels: int) -> float:
    work = conv_work(spec, _PROBE_ROWS, _PROBE_COLS, channels, channels_in, 1, 1, depthwise=False, residual=False)
    return work.cycles


def _with_utilisation(report: KnobCuration, spec: EngineSpec) -> KnobCuration:
    kept = [channel_utilisation(spec, int(count)) for count in report.kept if count]
    dropped = [channel_utilisation(spec, int(entry.value)) for entry in report.dropped]
    return replace(report, utilisation_before=fmean(kept + dropped), utilisation_after=fmean(kept))


def _without_scaling(knob: Knob) -> KnobCuration:
    reason = "moves curated channel counts off the edges of the staircase"
    return KnobCuration(knob.name, (1,), tuple(Dropped(value, reason) for value in knob.values if value != 1))
