"""Rules on maps and on what is done with them: stride, resolution, activations, squeeze-and-excite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from onnx import NodeProto, helper

from ...common.errors import ModelError
from ...export.patterns import Unary, patterns
from .draft import ConvFacts, Draft
from .rule import Effect, Lanes, Site

_SIZE = 0.875  # of the input's height and width, the usual next resolution of a family
_POOLS = frozenset({"GlobalAveragePool", "ReduceMean", "AveragePool"})
_GATES = frozenset({
    "Conv", "Gemm", "MatMul", "Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Add", "Mul", "Div", "Reshape",
    "Squeeze", "Unsqueeze", "Flatten",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class RaiseStrideEarly:
    """The stride of a later convolution moves to an earlier one: all maps between shrink to a quarter."""

    name = "raise-stride-early"
    reason = "early maps are the largest; halving them one layer sooner takes away most of their cost"
    effect = Effect.SMALLER

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        for early, late, between in _strides(draft):
            return [Site(early.name, tuple(between), f"stride 2 moves here from {late.name}")]
        return []

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        for early, late, _ in _strides(draft):
            for node, steps in ((early, (2, 2)), (late, (1, 1))):
                facts = draft.conv(node)
                assert facts is not None
                draft.set_conv(node, replace(facts, strides=steps))
            return


@dataclass(frozen=True, slots=True)
class LowerResolution:
    """The input becomes smaller, by about an eighth in height and width."""

    name = "lower-resolution"
    reason = "every map shrinks with the square of the input's height, weights stay as they are"
    effect = Effect.SMALLER

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        if len(draft.index.inputs) != 1 or len(draft.index.shape(draft.index.inputs[0])) != 4:
            return []
        height, width = draft.index.shape(draft.index.inputs[0])[2:]
        step = _total_stride(draft)
        size = int(height * _SIZE) // step * step
        if height != width or size < 2 * step or size == height:
            return []
        names = tuple(node.name for node in draft.nodes.values() if node.op_type != "Constant")
        return [Site("input", names, f"{height}x{width} to {size}x{size}", size)]

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        for site in sites:
            draft.set_input_size(site.option, site.option)


@dataclass(frozen=True, slots=True)
class ReplaceActivations:
    """Swish, hard swish, GELU and the like on whole maps become ReLU."""

    name = "replace-activations"
    reason = "a clamp costs nothing in the output stage; a table is a pass of the vector unit, or of the CPU"
    effect = Effect.RETRAIN

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        return [
            Site(p.output, tuple(n.name for n in p.nodes), " ".join(n.op_type for n in p.nodes)) for p in _curved(draft)
        ]

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        wanted = {site.name for site in sites}
        for pattern in list(_curved(draft)):
            if pattern.output in wanted:
                last = pattern.nodes[-1]
                relu = helper.make_node("Relu", [pattern.source], list(last.output), name=last.name)
                draft.replace([draft.nodes[node.name] for node in pattern.nodes], relu)


@dataclass(frozen=True, slots=True)
class DropSqueezeExcite:
    """Squeeze-and-excite branches (Hu et al. 2018, arXiv:1709.01507) go away: the map passes unscaled."""

    name = "drop-squeeze-excite"
    reason = "the gate needs the whole map before it is known, so nothing overlaps, and then scales it once more"
    effect = Effect.SMALLER

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        return [Site(mul.name, tuple(names), f"{len(names)} operators") for mul, _, names in _gates(draft)]

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        wanted = {site.name for site in sites}
        for mul, source, _ in list(_gates(draft)):
            if mul.name in wanted:
                draft.reroute(mul.output[0], source)
                del draft.nodes[mul.name]


def _strides(draft: Draft) -> Iterator[tuple[NodeProto, NodeProto, list[str]]]:
    """An early convolution of stride 1, the next one of stride 2 that follows in a plain chain, and all operators
    from the first to the second. The network's first convolution keeps its stride."""
    for late in list(draft.nodes.values()):
        facts = draft.conv(late)
        if facts is None or facts.strides != (2, 2):
            continue
        names, tensor, early = [late.name], late.input[0], None
        while (maker := draft.maker(tensor)) is not None and draft.reader(tensor) is not None:
            if not _keeps_positions(maker, draft.conv(maker)):
                break
            names.append(maker.name)
            candidate = draft.conv(maker)
            tensor = maker.input[0]
            if candidate is not None and candidate.window != (1, 1) and draft.maker(tensor) is not None:
                early = maker
        if early is not None:
            yield early, late, names[: names.index(early.name) + 1]


def _keeps_positions(node: NodeProto, facts: ConvFacts | None) -> bool:
    """Operators that a chain may have: its map keeps its size."""
    if facts is not None:
        return facts.strides == (1, 1)
    return node.op_type in ("Relu", "Clip", "HardSwish", "Sigmoid", "LeakyRelu", "HardSigmoid")


def _total_stride(draft: Draft) -> int:
    """The input's height over that of the smallest map with more than one position."""
    index = draft.index
    full = index.shape(index.inputs[0])[2]
    sizes = []
    for node in draft.nodes.values():
        try:
            shape = index.shape(node.output[0])
        except ModelError:
            continue
        if node.op_type == "Conv" and len(shape) == 4 and shape[2] > 1:
            sizes.append(shape[2])
    return max(1, -(-full // min(sizes, default=full)))


def _curved(draft: Draft) -> Iterator[Unary]:
    """Functions of maps that are no clamp; gates and the model's output keep theirs."""
    for pattern in patterns(draft.index):
        if not isinstance(pattern, Unary) or any(node.name not in draft.nodes for node in pattern.nodes):
            continue
        shape = draft.index.shape(pattern.output)
        plain = all(node.op_type in ("Relu", "Clip") for node in pattern.nodes)
        if not plain and pattern.output not in draft.index.outputs and len(shape) >= 3 and prod(shape[2:]) > 1:
            yield pattern


def _gates(draft: Draft) -> Iterator[tuple[NodeProto, str, list[str]]]:
    """Multiplications of a map with what was made of its own averages: the node, the map, and all operators."""
    for mul in list(draft.nodes.values()):
        if mul.op_type != "Mul" or mul.output[0] in draft.index.outputs:
            continue
        for source, gate in (tuple(mul.input), tuple(mul.input)[::-1]):
            names = _branch(draft, source, gate)
            if names:
                yield mul, source, [*names, mul.name]
                break


def _branch(draft: Draft, source: str, gate: str) -> list[str]:
    """The operators that make a (1, C, 1, 1) gate of `source` by averaging it first; none if they are not that."""
    names: list[str] = []
    waiting, pooled = [gate], False
    while waiting:
        node = draft.maker(name := waiting.pop())
        if name in draft.constants or (node is not None and node.name in names):
            continue
        if node is None or draft.index.shape(name)[2:] not in ((1, 1), ()):
            return []
        names.append(node.name)
        if node.op_type in _POOLS and node.input[0] == source:
            pooled = True
        elif node.op_type in _GATES:
            waiting.extend(operand for operand in node.input if operand)
        else:
            return []
    return names if pooled and draft.index.shape(source)[2:] != (1, 1) else []
