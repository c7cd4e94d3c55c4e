"""Finding out which operators a runtime joins, by timing them apart and together.

Four networks for every rule (first, rest) and each of three shapes, all behind the same convolution ("stem"), so that
every map has the layout that the runtime prefers inside of a network:

    a    stem, first                     e    stem, pool
    ab   stem, first, rest               b    stem, pool, rest

No runtime joins anything to a maximum pool, so b − e is what the rest costs by itself, and ab − a is what it costs
behind `first`. The rule holds where more than `SAVED_SHARE` of that cost is saved, with certainty (`sequential`), at
most shapes. The second operand of a sum is the stem's result, as in a residual block.

It is the saving that is asked about: a runtime that joins a sigmoid to a convolution but computes it no faster for
that gets the answer no. The idea is nn-Meter's (Zhang et al. 2021, section 4.1), which decides by a single
measurement of bare operators at a single shape, and never asks about sums of two tensors.
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
PROBE_SHAPES: tuple[Shape, ...] = ((1, 32, 28, 28), (1, 16, 56, 56), (1, 16, 88, 88))
"""Wide maps of few channels: there, what follows a convolution costs enough to be seen beside it."""
COMMON_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (first, second)
    for first in (Kind.CONV, Kind.DEPTHWISE, Kind.ADD, Kind.AVERAGE_POOL)
    for second in (Kind.RELU, Kind.CLIP, Kind.SIGMOID, Kind.ADD)
    if first != second
)
COMMON_TRIPLES: tuple[tuple[str, str, str], ...] = (
    (Kind.CONV, Kind.ADD, Kind.RELU), (Kind.DEPTHWISE, Kind.ADD, Kind.RELU),
)  # fmt: skip


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
    """The networks `a`, `ab`, `b` and `e` for a rule at one shape."""
    first, *rest = (probe_operator(kind, shape) for kind in rule)
    pool = probe_operator(Kind.MAX_POOL, shape)
    lead = [pool] if len(first.inputs) > 1 else []  # a sum right behind the stem might join it
    chains = {"a": [*lead, first], "ab": [*lead, first, *rest], "b": [pool, *rest], "e": [pool]}
    return {name: _chain(operators, shape) for name, operators in chains.items()}


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
    """The stem and one operator after the other; the second operand of a sum is the stem's result."""
    nodes = [OperatorNode("stem", probe_operator(Kind.CONV, shape), ("x",))]
    for number, operator in enumerate(operators):
        inputs = (nodes[-1].name, nodes[0].name)[: len(operator.inputs)]
        nodes.append(OperatorNode(f"step{number}", operator, inputs))
    return OperatorGraph.of(nodes, {"x": shape}, [nodes[-1].name])


def _ask(networks: Mapping[str, OperatorGraph], prepare: Prepare, plan: Plan, seed: int) -> Answer:
    """Whether a + (1 − share) × (b − e) − ab is positive: more is saved than the share."""
    kept = 1 - SAVED_SHARE
    return Interview.of(networks, prepare, seed=seed).ask({"a": 1.0, "ab": -1.0, "b": kept, "e": -kept}, plan)
