"""The rules by which a value of a knob goes, applied to a probed line. Every rule gives its reason in figures.

A value "does more" than another when it does at least as much in every measure of work (multiply-accumulates, weights,
map values, layers) and more in one: a rule never trades one measure of capacity for another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...models.architecture import KnobValue
from .costs import MEASURES
from .probes import Line
from .report import Dropped

Array = NDArray[np.float64]

EQUAL = 0.002  # relative difference of two networks' costs below which they cost the same
RESOLUTION = 0.02  # neighbouring values of a scale that move the cost of a network by less are one choice
MOST = 0.9  # share of the probed architectures that a rule needs
OFF_EDGE = 0.1  # of the cost between the neighbours: a value this far above their straight line is no edge
FALLS = 0.05  # share of steps that may lower the cost before an order is no order

Rule = Callable[[Line], "Dropped | None"]


def log_cost(line: Line) -> Array:
    """Logarithm of the latency, (contexts, values)."""
    return np.log(line.latency_us)


def cost_ratios(line: Line) -> Array:
    """Median over the contexts of the cost of every value over that of the first."""
    relative = log_cost(line)
    return np.exp(_median(relative - relative[:, :1]))


def by_cost(line: Line) -> Line:
    """The line with its values in the order of their mean cost; equal ones by work, then as they stood."""
    return line.only(_ordered(line, _mean_rank(log_cost(line)), _mean_rank(np.log(line.work + 1).mean(2))))


def by_work(line: Line) -> Line:
    """The line with its values in the order of multiply-accumulates: what a search without a target goes by."""
    return line.only(_ordered(line, _mean_rank(np.log(line.work[:, :, 0] + 1))))


def falls(line: Line) -> float | None:
    """Share of the steps from one value to the next at which the cost falls noticeably."""
    steps = np.diff(log_cost(line), axis=1)
    known = steps[np.isfinite(steps)]
    return float((known < -EQUAL).mean()) if known.size else None


def unsupported(line: Line) -> list[Dropped]:
    """Values that the target refuses wherever they were probed."""
    refused = ~np.isfinite(line.latency_us).any(axis=0)
    if refused.all():
        return []  # the knob is not what the target refuses
    return [Dropped(line.knob.values[i], line.refusals[i]) for i in np.flatnonzero(refused)]


def dominated(line: Line) -> Dropped | None:
    """The first value that another one beats: never cheaper, never doing more, and worse in one of the two."""
    values = line.knob.values
    for i in range(len(values)):
        for k in range(len(values)):
            if i != k and _dominates(line, k, i):
                return Dropped(values[i], _compare(line, i, k))
    return None


def off_edge(line: Line) -> Dropped | None:
    """The value of a scale that lies highest above the straight line of cost over work between its neighbours.

    On a staircase these are the values that begin a step; its right edges lie below the line.
    """
    excess = [_excess(line, i) for i in range(1, len(line.knob.values) - 1)]
    worst = int(np.argmax(excess)) + 1 if excess else 0
    if not excess or excess[worst - 1] < OFF_EDGE:
        return None
    low, value, high = line.knob.values[worst - 1 : worst + 2]
    return Dropped(
        value, f"no right edge: {excess[worst - 1]:.0%} of the cost between {low} and {high} above their straight line"
    )


def off_lanes(lanes: int) -> Rule:
    """Drops a channel count between two others that is neither a multiple of `lanes` nor itself an edge."""

    def rule(line: Line) -> Dropped | None:
        values = line.knob.values
        for i in range(1, len(values) - 1):
            if int(values[i]) % lanes and int(values[i - 1]) and _excess(line, i) > -OFF_EDGE:
                return Dropped(values[i], f"no multiple of {lanes} lanes, and no edge of the staircase either")
        return None

    return rule


def unresolved(line: Line) -> Dropped | None:
    """The smaller of two neighbours on a scale that hardly differ in the cost of nearly all networks: it does less."""
    growth = np.diff(log_cost(line), axis=1)
    for i in range(growth.shape[1] - 1, -1, -1):
        if _share(growth[:, i] < RESOLUTION, growth[:, i]) >= MOST and _does_more(line, i + 1, i):
            return Dropped(line.knob.values[i], _compare(line, i, i + 1))
    return None


def out_of_order(line: Line) -> Dropped | None:
    """Of kinds of blocks and other values without a scale: one whose cost is now above, now below that of a better one.

    Better is what does more for its cost: the mean logarithm of the measures of work less that of the cost, the mean
    over the probed networks.
    """
    worth, values = _yield(line), line.knob.values
    chain: list[int] = []
    for i in np.argsort(-worth, kind="stable"):
        for k in chain:
            against = _against(line, int(i), k)
            if against > FALLS:
                return Dropped(
                    values[i],
                    f"costs more than {values[k]} in some networks, less in others ({against:.0%} the other way), and "
                    f"does {1 - np.exp(worth[i] - worth[k]):.1%} less for its cost",
                )
        chain.append(int(i))
    return None


def apply(line: Line, rules: Sequence[Rule]) -> tuple[Line, list[Dropped]]:
    """The line without what the rules drop, each applied until it drops nothing more; never the last value."""
    dropped: list[Dropped] = []
    for rule in rules:
        while len(line.knob.values) > 1 and (found := rule(line)) is not None:
            dropped.append(found)
            line = line.only(tuple(value for value in line.knob.values if value != found.value))
    return line, dropped


def is_scale(line: Line) -> bool:
    """Whether the values are numbers, not names of kinds."""
    return not any(isinstance(value, str) for value in line.knob.values)


def _dominates(line: Line, k: int, i: int) -> bool:
    """Whether value k costs no more than value i nearly everywhere and does at least as much; of equals the first."""
    gap = log_cost(line)[:, k] - log_cost(line)[:, i]
    if not np.isfinite(gap).any() or _share(gap <= EQUAL, gap) < MOST:
        return False
    if _does_more(line, k, i):
        return True
    # Skipping and cutting a connection both do nothing: only where all values do the same can one stand for another.
    equal = np.allclose(line.work, line.work[:, :1], rtol=1e-6)
    cheaper = bool(_median(gap[:, None])[0] < -EQUAL)
    return equal and (cheaper or (k < i and _share(gap >= -EQUAL, gap) >= MOST))


def _yield(line: Line) -> Array:
    """Work for cost of every value, a logarithm relative to the mean over the values."""
    ratio = np.log(line.work + 1).mean(2) - log_cost(line)
    return _mean_rank(ratio)


def _against(line: Line, i: int, k: int) -> float:
    """Share of contexts in which values i and k stand the other way round by cost than they mostly do."""
    gap = log_cost(line)[:, i] - log_cost(line)[:, k]
    return min(_share(gap > EQUAL, gap), _share(gap < -EQUAL, gap))


def _does_more(line: Line, k: int, i: int) -> bool:
    """At least as much in every measure of work nearly everywhere, and more in one."""
    ratio = np.log(line.work[:, k] + 1) - np.log(line.work[:, i] + 1)
    return bool(((ratio > -1e-6).mean(0) >= MOST).all() and (np.median(ratio, 0) > 1e-6).any())


def _excess(line: Line, i: int) -> float:
    """How far value i lies above the straight line of cost over multiply-accumulates between its neighbours, as a
    share of the cost between them; the median over the contexts."""
    cost, work = line.latency_us[:, i - 1 : i + 2], line.work[:, i - 1 : i + 2, 0]
    rise, run = cost[:, 2] - cost[:, 0], work[:, 2] - work[:, 0]
    usable = (run > 0) & (rise > EQUAL * cost[:, 0])
    if usable.mean() < MOST / 2:
        return 0.0
    share = (work[usable, 1] - work[usable, 0]) / run[usable]
    return float(np.median((cost[usable, 1] - cost[usable, 0]) / rise[usable] - share))


def _compare(line: Line, i: int, k: int) -> str:
    """What value k does and costs, seen from value i."""
    cost = np.exp(_median(log_cost(line)[:, [k]] - log_cost(line)[:, [i]]))[0] - 1
    work = np.median(line.work[:, k] / np.maximum(line.work[:, i], 1), axis=0) - 1
    gains = [f"{gain:.0%} more {name}" for gain, name in zip(work, MEASURES, strict=True) if gain >= 0.005]
    does = f"does {' and '.join(gains)}" if gains else "does the same"
    amount = "the same time" if abs(cost) < 0.0005 else f"{abs(cost):.1%} {'more' if cost > 0 else 'less'} time"
    return f"{line.knob.values[k]} {does} for {amount}"


def _ordered(line: Line, *keys: Array) -> tuple[KnobValue, ...]:
    order = np.lexsort((np.arange(len(line.knob.values)), *reversed([key.round(9) for key in keys])))
    return tuple(line.knob.values[i] for i in order)


def _mean_rank(values: Array) -> Array:
    """Mean over the contexts of every value's logarithm over that of the context; NaN (refused) ends up last."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        centred = values - np.nanmean(values, axis=1, keepdims=True)
        return np.nan_to_num(np.nanmean(centred, axis=0), nan=np.inf)


def _median(values: Array) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(values, axis=0)


def _share(true: NDArray[np.bool_], known: Array) -> float:
    """Share of contexts, among those with a known value."""
    finite = np.isfinite(known)
    return float(true[finite].mean()) if finite.any() else 0.0
