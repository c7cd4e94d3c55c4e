"""Finding out which operators a runtime joins, by timing them apart and together.

For every rule and each of three shapes: the first part alone (a), the second alone (b), both in sequence (ab), and a
network of nearly nothing (e), which costs what every call costs. Apart, ab costs a + b − e; joined, the map between
them is neither written nor read, and most of the cheaper part's own time is saved. The rule holds where more than
`SAVED_SHARE` of that time is saved, with certainty (`sequential`), at most shapes.

The idea is nn-Meter's (Zhang et al. 2021, section 4.1), which decides by a single measurement at a single shape and
never asks about sums of two tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...common.errors import UnsupportedError
from .fusion import FusionRules
from .graph import OperatorGraph, OperatorNode
from .operator import CONVOLUTIONS, POOLS, Kind, Operator, Shape, Window, convolution_kind
from .sequential import Answer, Interview, Plan, Prepare

SAVED_SHARE = 0.5
PROBE_SHAPES: tuple[Shape, ...] = ((1, 32, 28, 28), (1, 16, 56, 56), (1, 8, 112, 112))
"""Wide maps of few channels: there, what follows a convolution costs enough to be seen beside it."""
COMMON_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (first, second)
    for first in (Kind.CONV, Kind.DEPTHWISE, Kind.ADD, Kind.AVERAGE_POOL)
    for second in (Kind.RELU, Kind.CLIP, Kind.SIGMOID, Kind.ADD)
)
COMMON_TRIPLES: tuple[tuple[str, str, str], ...] = (
    (Kind.CONV, Kind.ADD, Kind.RELU), (Kind.DEPTHWISE, Kind.ADD, Kind.RELU),
)  # fmt: skip
_TINY: Shape = (1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class FusionVerdict:
    """One rule and the answer at each shape. `holds` is None where no majority of shapes was certain and agreed."""

    rule: tuple[str, ...]
    answers: tuple[Answer, ...]

    @property
    def holds(self) -> bool | None:
        found = [answer.holds for answer in self.answers]
        for verdict in (True, False):
            if found.count(verdict) * 2 > len(found):
                return verdict
        return None


def find_fusion_rules(
    prepare: Prepare,
    *,
    pairs: Iterable[tuple[str, str]] = COMMON_PAIRS,
    triples: Iterable[tuple[str, str, str]] = COMMON_TRIPLES,
    shapes: Sequence[Shape] = PROBE_SHAPES,
    plan: Plan | None = None,
    seed: int = 0,
) -> tuple[FusionRules, tuple[FusionVerdict, ...]]:
    """The rules that hold on the device that `prepare` compiles for, and the verdict on every rule asked about.

    A rule that stayed open does not hold: costing two operators apart errs on the safe side.

    Raises:
        UnsupportedError: a kind of operator that no probe can be built of.
    """
    rules = (*pairs, *triples)
    verdicts = tuple(probe_rule(rule, prepare, shapes=shapes, plan=plan, seed=seed) for rule in rules)
    held = [verdict.rule for verdict in verdicts if verdict.holds]
    found = FusionRules.of(
        ((rule[0], rule[1]) for rule in held if len(rule) == 2),
        ((rule[0], rule[1], rule[2]) for rule in held if len(rule) == 3),
    )
    return found, verdicts


def probe_rule(
    rule: tuple[str, ...],
    prepare: Prepare,
    *,
    shapes: Sequence[Shape] = PROBE_SHAPES,
    plan: Plan | None = None,
    seed: int = 0,
) -> FusionVerdict:
    """The verdict on one pair or triple."""
    answers = tuple(_ask(probe_networks(rule, shape), prepare, plan or Plan(), seed) for shape in shapes)
    return FusionVerdict(rule, answers)


def probe_networks(rule: tuple[str, ...], shape: Shape) -> dict[str, OperatorGraph]:
    """The networks `a`, `b`, `ab` and `e` for a rule at one shape; sums read a second input."""
    first, *rest = (probe_operator(kind, shape) for kind in rule)
    return {
        "a": _chain([first], shape),
        "b": _chain(rest, shape),
        "ab": _chain([first, *rest], shape),
        "e": _chain([probe_operator(Kind.RELU, _TINY)], _TINY),
    }


def probe_operator(kind: str, shape: Shape) -> Operator:
    """An operator of `kind` that keeps `shape` (N, C, H, W)."""
    channels = shape[1]
    if kind in (Kind.CONV, Kind.DEPTHWISE, Kind.GROUPED):
        groups = {Kind.CONV: 1, Kind.DEPTHWISE: channels}.get(Kind(kind), max(1, channels // 16))
        kernel = 3 if groups == channels else 1  # the cheaper the convolution, the clearer what follows it shows
        weights = ((channels, channels // groups, kernel, kernel), (channels,))
        window = Window.square(kernel, 1, kernel // 2, groups=groups)
        return Operator(convolution_kind(groups, channels), (shape,), shape, window, weights)
    if kind in POOLS:
        return Operator(kind, (shape,), shape, Window.square(3, 1, 1))
    if kind == Kind.BATCH_NORM:
        return Operator(kind, (shape,), shape, weights=((channels,),) * 4)
    if kind in (Kind.ADD, Kind.MUL, Kind.SUB):
        return Operator(kind, (shape, shape), shape)
    if kind in _SHAPE_KEEPING:
        return Operator(kind, (shape,), shape)
    raise UnsupportedError(f"no probe can be built of {kind!r}", hint=f"known: {', '.join(PROBED_KINDS)}")


_SHAPE_KEEPING = (
    Kind.RELU, Kind.CLIP, Kind.SIGMOID, Kind.TANH, Kind.HARD_SWISH, Kind.HARD_SIGMOID, Kind.LEAKY_RELU,
)  # fmt: skip
PROBED_KINDS = tuple(
    str(kind)
    for kind in (
        *(k for k in CONVOLUTIONS if k != Kind.TRANSPOSED), *POOLS, Kind.BATCH_NORM, Kind.ADD, Kind.MUL, Kind.SUB,
        *_SHAPE_KEEPING,
    )
)  # fmt: skip


def _chain(operators: Sequence[Operator], shape: Shape) -> OperatorGraph:
    """One operator after the other on the input `x`; the second operand of a sum is the input `other`."""
    nodes: list[OperatorNode] = []
    for number, operator in enumerate(operators):
        before = nodes[-1].name if nodes else "x"
        nodes.append(OperatorNode(f"step{number}", operator, (before, "other")[: len(operator.inputs)]))
    read = {name for node in nodes for name in node.inputs}
    sources: Mapping[str, Shape] = {name: shape for name in ("x", "other") if name in read}
    return OperatorGraph.of(nodes, sources, [nodes[-1].name])


def _ask(networks: Mapping[str, OperatorGraph], prepare: Prepare, plan: Plan, seed: int) -> Answer:
    """Whether more than the threshold is saved; which part is cheaper is settled by the first look's medians."""
    interview = Interview.of(networks, prepare, seed=seed)
    cheaper = min(("a", "b"), key=lambda name: interview.median(name, plan.looks[0]))
    weights = {"a": 1.0, "b": 1.0, "ab": -1.0, "e": -1.0 + SAVED_SHARE}
    weights[cheaper] -= SAVED_SHARE
    return interview.ask(weights, plan)
