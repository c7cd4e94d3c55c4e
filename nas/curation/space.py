"""`curate`: the few values of every knob that are worth considering on a target, in the order of their cost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from ...models.architecture import Knob, KnobValue
from ..space import Space
from .costs import CostModel, Sampler
from .probes import Line, probe
from .report import CurationReport, Dropped, KnobCuration
from .rules import (
    Rule,
    apply,
    by_cost,
    by_work,
    cost_ratios,
    dominated,
    falls,
    is_scale,
    off_edge,
    off_lanes,
    out_of_order,
    unresolved,
    unsupported,
)

STAIRS = ("channels", "resolution", "expansion")  # kinds of knobs whose values fill lanes, wholly or in part
ROUNDS = 2  # the second one probes on architectures of what the first one left
PROBE_SEED = 0  # a search's own seed must not move its space


@dataclass(slots=True)
class _Progress:
    """What is known of every knob so far."""

    dropped: dict[str, list[Dropped]] = field(default_factory=dict)
    falls_before: dict[str, float | None] = field(default_factory=dict)


def curate(
    space: Space, costs: CostModel, *, input_channels: int = 3, classes: int = 10, leave: Collection[str] = ()
) -> tuple[Space, CurationReport]:
    """`space` with the values worth considering on the target, ordered by cost, and what was dropped.

    Every knob is probed on several architectures; see `rules` for what goes. Knobs in `leave`, which the user narrowed
    by hand, keep their values and are only put in order.
    """
    sample = Sampler(space.family, costs, input_channels=input_channels, classes=classes)
    progress, found, lines = _Progress(), space, list[Line]()
    for number in range(ROUNDS):
        lines = probe(found, sample, PROBE_SEED + number)
        found = _round(found, lines, costs, leave, progress)
    reports = [_report(knob, lines, progress) for knob in found.knobs]
    report = CurationReport(costs.target, space.cardinality(), found.cardinality(), tuple(reports), sample.asked)
    return found, report


def _round(
    space: Space, lines: list[Line], costs: CostModel, leave: Collection[str], progress: _Progress
) -> Space:  # fmt: skip
    kept: dict[str, tuple[KnobValue, ...]] = {}
    for line in lines:
        name = line.knob.name
        progress.falls_before.setdefault(name, falls(by_work(line)))
        left, dropped = (line, []) if name in leave else _judge(line, costs)
        progress.dropped.setdefault(name, []).extend(dropped)
        kept[name] = by_cost(left).knob.values
    knobs = tuple(replace(knob, values=kept.get(knob.name, knob.values)) for knob in space.knobs)
    return replace(space, knobs=knobs, ordered=True)


def _judge(line: Line, costs: CostModel) -> tuple[Line, list[Dropped]]:
    refused = unsupported(line)
    gone = {entry.value for entry in refused}
    line = line.only(tuple(value for value in line.knob.values if value not in gone))
    left, dropped = apply(by_work(line) if is_scale(line) else line, _rules(line, costs.lanes))
    return left, refused + dropped


def _rules(line: Line, lanes: int | None) -> list[Rule]:
    if not is_scale(line):
        return [dominated, out_of_order]
    stairs = [off_edge] if line.knob.kind in STAIRS else []
    multiples = [off_lanes(lanes)] if line.knob.kind == "channels" and lanes is not None else []
    return [dominated, *stairs, *multiples, unresolved]


def _report(knob: Knob, lines: list[Line], progress: _Progress) -> KnobCuration:
    line = next((line for line in lines if line.knob.name == knob.name), None)
    before, dropped = progress.falls_before.get(knob.name), tuple(progress.dropped.get(knob.name, ()))
    if line is None:
        return KnobCuration(knob.name, knob.values, dropped, falls_before=before)
    line = line.only(knob.values)
    return KnobCuration(knob.name, knob.values, dropped, tuple(cost_ratios(line).tolist()), before, falls(line))
