"""Rules on convolutions: fuse inverted bottlenecks, give depthwise ones input channels, take smaller windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from .draft import ConvFacts, Draft, copy_of_node
from .rule import Effect, Lanes, Site

_FEW = 8  # times the input lanes: a full convolution over more takes longer than a depthwise one that uses one of them
_CLAMPS = frozenset({"Relu", "Clip", "HardSwish", "LeakyRelu", "Sigmoid", "HardSigmoid"})


@dataclass(frozen=True, slots=True)
class FuseInvertedBottleneck:
    """1×1 expansion and k×k depthwise convolution become one k×k convolution (EfficientNet-EdgeTPU, 2019).

    Its weights begin as the product of the two kernels, which leaves out the activation between them.
    """

    name = "fuse-inverted-bottleneck"
    reason = (
        "a depthwise convolution leaves most input lanes idle; one full convolution does more multiplications in less "
        "time where maps are large and channels few"
    )
    effect = Effect.RETRAIN

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        return [
            Site(depthwise.name, (expand.name, depthwise.name), _shape_text(draft, expand, depthwise))
            for expand, depthwise, _ in _bottlenecks(draft)
        ]

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        wanted = {site.name for site in sites}
        for expand, depthwise, between in list(_bottlenecks(draft)):
            if depthwise.name in wanted:
                _fuse(draft, expand, depthwise, between)


@dataclass(frozen=True, slots=True)
class DepthwiseToConvolution:
    """A depthwise convolution becomes a full one whose weights between different channels are zero."""

    name = "depthwise-to-convolution"
    reason = "a depthwise convolution leaves most input lanes idle; a full one costs no more where channels are few"
    effect = Effect.SAME

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        found = ((node, draft.conv(node)) for node in draft.nodes.values())
        return [
            Site(node.name, (node.name,), f"{facts.groups} channels, {facts.window[0]}x{facts.window[1]}")
            for node, facts in found
            if facts is not None and facts.is_depthwise and facts.groups <= _FEW * lanes.inputs
        ]

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        for site in sites:
            node = draft.nodes[site.name]
            facts = draft.conv(node)
            assert facts is not None
            weight = np.zeros((facts.groups, facts.groups, *facts.window), np.float32)
            own = np.arange(facts.groups)
            weight[own, own] = facts.weight[:, 0]
            draft.set_conv(node, replace(facts, weight=weight, groups=1))


@dataclass(frozen=True, slots=True)
class SmallerKernels:
    """Windows of 5 or 7 become 3: the centre of the kernel stays."""

    name = "smaller-kernels"
    reason = "a window of 3 takes a third of the products of 5, and fewer rows of the map in SRAM"
    effect = Effect.SMALLER

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        found = ((node, draft.conv(node)) for node in draft.nodes.values())
        return [
            Site(node.name, (node.name,), f"{facts.window[0]}x{facts.window[1]} to 3x3")
            for node, facts in found
            if facts is not None and _can_shrink(facts)
        ]

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        for site in sites:
            node = draft.nodes[site.name]
            facts = draft.conv(node)
            assert facts is not None
            cut = (facts.window[0] - 3) // 2
            top, left, bottom, right = (pad - cut * facts.dilations[0] for pad in facts.pads)
            weight = facts.weight[:, :, cut:-cut, cut:-cut]
            draft.set_conv(node, replace(facts, weight=weight, pads=(top, left, bottom, right)))


@dataclass(frozen=True, slots=True)
class ShortenStages:
    """A residual block (a result added to what it was made from) goes away: its input takes its place."""

    name = "shorten-stages"
    reason = "each residual block repeats a stage's work; the last ones add least to the accuracy"
    effect = Effect.SMALLER

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        runs: dict[str, list[NodeProto]] = {}
        for add in draft.nodes.values():
            if (source := _shortcut(draft, add)) is not None:
                before = draft.maker(source)
                run = runs.pop(before.name, []) if before is not None else []
                runs[add.name] = [*run, add]
        return [_shortening(draft, run) for run in runs.values() if len(run) >= 2]

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        for site in sites:
            add = draft.nodes[site.name]
            source = _shortcut(draft, add)
            assert source is not None
            draft.reroute(add.output[0], source)
            del draft.nodes[add.name]


def _bottlenecks(draft: Draft) -> Iterator[tuple[NodeProto, NodeProto, list[NodeProto]]]:
    """Expansions, their depthwise convolutions, and the activations between them."""
    for node in list(draft.nodes.values()):
        facts = draft.conv(node)
        if facts is None or not facts.is_depthwise:
            continue
        before, between = draft.maker(node.input[0]), []
        while before is not None and before.op_type in _CLAMPS and draft.reader(before.output[0]) is not None:
            between.append(before)
            before = draft.maker(before.input[0])
        expand = draft.conv(before) if before is not None else None
        if before is not None and expand is not None and expand.is_pointwise and draft.reader(before.output[0]):
            yield before, node, between


def _fuse(draft: Draft, expand: NodeProto, depthwise: NodeProto, between: Sequence[NodeProto]) -> None:
    first, second = draft.conv(expand), draft.conv(depthwise)
    assert first is not None
    assert second is not None
    weight = second.weight * first.weight  # (hidden, 1, k, k) × (hidden, inputs, 1, 1)
    bias = second.bias + second.weight.sum((1, 2, 3)) * first.bias
    fused = copy_of_node(depthwise)
    fused.input[0] = expand.input[0]
    draft.replace([expand, *between, depthwise], fused)
    draft.set_conv(fused, replace(second, weight=weight, bias=bias, groups=1))


def _shape_text(draft: Draft, expand: NodeProto, depthwise: NodeProto) -> str:
    first, second = draft.conv(expand), draft.conv(depthwise)
    assert first is not None
    assert second is not None
    hidden, inputs = first.weight.shape[:2]
    return f"{inputs} to {hidden} channels, {second.window[0]}x{second.window[1]} stride {second.strides[0]}"


def _can_shrink(facts: ConvFacts) -> bool:
    """Windows that stay centred: odd, square, larger than 3 and padded at least by what goes away."""
    size, gap = facts.window[0], facts.dilations[0]
    cut = (size - 3) // 2 * gap
    square = facts.window == (size, size) and facts.dilations == (gap, gap)
    return square and size > 3 and size % 2 == 1 and min(facts.pads) >= cut


def _shortcut(draft: Draft, add: NodeProto) -> str | None:
    """The operand of an addition from which the other one was made, if the addition may go away."""
    if add.op_type != "Add" or add.output[0] in draft.index.outputs:
        return None
    if any(name in draft.constants for name in add.input):
        return None
    for source, made in (tuple(add.input), tuple(add.input)[::-1]):
        if source != made and draft.index.shape(source) == draft.index.shape(made) and _is_chain(draft, source, made):
            return source
    return None


def _is_chain(draft: Draft, source: str, made: str) -> bool:
    """`made` comes from `source` alone, and nothing else reads what lies between."""
    seen: set[str] = set()
    waiting = [made]
    while waiting:
        name = waiting.pop()
        if name == source or name in seen or name in draft.constants or not name:
            continue
        seen.add(name)
        maker = draft.maker(name)
        if maker is None:
            return False
        waiting.extend(maker.input)
    return source != made and made in seen and source not in seen


def _shortening(draft: Draft, run: Sequence[NodeProto]) -> Site:
    """The last of a run of residual blocks."""
    add = run[-1]
    source = _shortcut(draft, add)
    names = [add.name]
    waiting = [name for name in add.input if name != source]
    while waiting:
        maker = draft.maker(waiting.pop())
        if maker is not None and maker.name not in names:
            names.append(maker.name)
            waiting.extend(name for name in maker.input if name != source and name not in draft.constants)
    return Site(add.name, tuple(names), f"block {len(run)} of a run of {len(run)} residual ones")
