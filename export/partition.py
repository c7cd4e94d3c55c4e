"""From an operator graph to subgraphs: which nodes the compiler places as one piece.

Decided from shapes and the engine alone, so that an estimator that knows only shapes gets the same
pieces. Two rules:

1. An addition joins the convolution that feeds it (residual addition in the output stage).
2. An inverted bottleneck, expand → depthwise → project, or a fused one, k×k → project, becomes one
   chain where its inner maps cannot all stay in SRAM; elsewhere whole-map steps are faster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..common.errors import UnsupportedError
from ..kernels.chain import stages
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.function_ops import Mul
from ..kernels.movement_ops import Movement
from ..kernels.ops import Add, Conv2d, MatMul, Op
from ..kernels.search import Candidate, candidates
from ..kernels.subgraph import Memory, Subgraph
from ..kernels.traits import is_elementwise
from ..targets.spec import EngineSpec
from .graph import Graph, Node

_PAIRED = Add | Mul | MatMul | CuboidAttention  # may have a second operand


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that run as one subgraph: convolutions in a row, then perhaps an addition; or one other node."""

    nodes: tuple[Node, ...]
    second: str | None = None
    plain: bool = True  # every map that it reads or writes lies alone in its memory

    @property
    def label(self) -> str:
        return "+".join(node.name for node in self.nodes)

    @property
    def residual(self) -> bool:
        return len(self.nodes) > 1 and isinstance(self.nodes[-1].op, Add)

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operators of the subgraph; a fused addition shows only in `second`."""
        return tuple(computing(node) for node in (self.nodes[:-1] if self.residual else self.nodes))

    @property
    def input(self) -> str:
        return self.nodes[0].inputs[0]

    @property
    def output(self) -> str:
        return self.nodes[-1].output

    @property
    def writes(self) -> frozenset[str]:
        """Every tensor that the group makes."""
        return frozenset((self.output, *self.nodes[-1].extra))

    @property
    def reads(self) -> tuple[str, ...]:
        """Tensors that the group reads, each once."""
        return tuple(dict.fromkeys((self.input, self.second) if self.second else (self.input,)))

    def subgraph(self, where: dict[str, Memory]) -> Subgraph:
        second = where[self.second] if self.second else None
        return Subgraph(self.ops, where[self.input], where[self.output], second)


def computing(node: Node) -> Op:
    """The operator of a node that a kernel can run.

    Raises:
        UnsupportedError: it moves elements; `movement.expand` turns such nodes into others.
    """
    if isinstance(node.op, Movement):
        raise UnsupportedError(f"no kernel runs a {type(node.op).__name__} as it is", where=f"node {node.name!r}")
    return node.op


def partition(
    graph: Graph, spec: EngineSpec, *, sram_bytes: int | None = None, where: dict[str, Memory] | None = None
) -> tuple[Group, ...]:
    """The groups in execution order; together they hold every node once. `sram_bytes` may be less than the engine's;
    `where` the maps lie at first is `first_places` if nothing else is said."""
    capacity = sram_bytes or spec.sram_bytes
    groups = fuse_additions(graph)
    crowded = _crowded(graph, groups, spec, capacity, where or first_places(graph, spec))
    return tuple(_fuse_chains(graph, groups, crowded, spec, capacity))


def fuse_additions(graph: Graph) -> list[Group]:
    """Every node in a group of its own, except that additions join the convolution that feeds them."""
    uses = use_counts(graph)
    order = {node.output: i for i, node in enumerate(graph.nodes)}
    producers = {node.output: node for node in graph.nodes}
    taken: dict[str, Group] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Add):
            continue
        a, b = node.inputs
        for name, other in sorted(((a, b), (b, a)), key=lambda pair: -order.get(pair[0], -1)):
            conv = producers.get(name)
            if conv and isinstance(conv.op, Conv2d) and uses[name] == 1 and conv.name not in taken:
                taken[node.name] = taken[conv.name] = _group(graph, (conv, node), other)
                break
    groups: list[Group] = []
    for node in graph.nodes:
        group = taken.get(node.name)
        if group is None:
            second = node.inputs[1] if len(node.inputs) > 1 and isinstance(node.op, _PAIRED) else None
            groups.append(_group(graph, (node,), second))
        elif node is group.nodes[-1]:
            groups.append(group)
    return groups


def _group(graph: Graph, nodes: tuple[Node, ...], second: str | None) -> Group:
    touched = {name for node in nodes for name in (*node.inputs, node.output)}
    return Group(nodes, second, plain=touched.isdisjoint(graph.shared))


def _crowded(graph: Graph, groups: list[Group], spec: EngineSpec, capacity: int, where: dict[str, Memory]) -> set[int]:
    """Steps whose maps do not all fit into SRAM when every map of the network stays whole."""
    live = resident_bytes(graph, groups, where)
    found: set[int] = set()
    for step, group in enumerate(groups):
        least = min(c.workspace_bytes for c in tilings(group, where, spec))
        if live[step] + least > capacity:
            found.add(step)
    return found


def _fuse_chains(graph: Graph, groups: list[Group], crowded: set[int], spec: EngineSpec, capacity: int) -> list[Group]:
    uses = use_counts(graph)
    found: list[Group] = []
    step = 0
    while step < len(groups):
        length = next((n for n in (3, 2) if _is_bottleneck(groups[step : step + n], n, uses)), 1)
        if length > 1 and any(step + k in crowded for k in range(length)):
            joined = join(groups[step : step + length])
            if _runs(joined, spec, capacity):
                found.append(joined)
                step += length
                continue
        found.append(groups[step])
        step += 1
    return found


def _is_bottleneck(groups: list[Group], length: int, uses: dict[str, int]) -> bool:
    """Expand or k×k, then depthwise, then project; or k×k or depthwise, then project."""
    if len(groups) < length:
        return False
    convs = [group.nodes[0].op for group in groups]
    linked = all(b.input == a.output and uses[a.output] == 1 for a, b in pairwise(groups))
    lone = all(len(group.nodes) == 1 for group in groups[:-1])
    if not (linked and lone and all(isinstance(op, Conv2d) for op in convs)):
        return False
    depthwise = [isinstance(op, Conv2d) and op.depthwise for op in convs]
    first, last = convs[0], convs[-1]
    projects = isinstance(last, Conv2d) and last.window.taps == 1 and not last.depthwise
    widens = isinstance(first, Conv2d) and (length == 3 or first.window.taps > 1)  # two 1×1 in a row begin no block
    return projects and widens and depthwise in ([False, True, False], [False, False], [True, False])


def join(groups: Sequence[Group]) -> Group:
    """One group of groups that follow each other."""
    return Group(
        tuple(node for group in groups for node in group.nodes), groups[-1].second, all(group.plain for group in groups)
    )


def _runs(group: Group, spec: EngineSpec, capacity: int) -> bool:
    """True when the chain has a tiling at all, even with every outer map in DRAM."""
    second = Memory.DRAM if group.second else None
    try:
        found = candidates(Subgraph(group.ops, Memory.DRAM, Memory.DRAM, second), spec)
    except UnsupportedError:
        return False
    return any(choice.workspace_bytes <= capacity for choice in found)


def tilings(group: Group, where: dict[str, Memory], spec: EngineSpec) -> tuple[Candidate, ...]:
    """`candidates` of the group's subgraph; a refusal names the group."""
    try:
        return candidates(group.subgraph(where), spec)
    except UnsupportedError as error:
        raise UnsupportedError(
            error.what, where=f"node {group.label!r}", hint="it can run on the CPU instead"
        ) from error


def use_counts(graph: Graph) -> dict[str, int]:
    """How often each tensor is read; a graph output counts as one reader more, and so does a map that shares memory."""
    uses: dict[str, int] = defaultdict(int)
    for node in graph.nodes:
        for name in node.inputs:
            uses[name] += 1
    for name in (*graph.outputs, *graph.shared):
        uses[name] += 1
    return uses


def first_places(graph: Graph, spec: EngineSpec) -> dict[str, Memory]:
    """Every map in SRAM, but what cuboid attention gathers and scatters, and inputs and outputs where the engine
    exchanges them with its host."""
    attention = [node for node in graph.nodes if isinstance(node.op, CuboidAttention)]
    streamed = {graph.root(name) for node in attention for name in (*node.inputs, node.output, *node.extra)}
    streamed.update(graph.fixed)
    ports = {*graph.inputs, *graph.outputs}
    return {name: _first_place(graph, graph.root(name), ports, streamed, spec) for name in graph.tensors}


def _first_place(graph: Graph, root: str, ports: set[str], streamed: set[str], spec: EngineSpec) -> Memory:
    if root in ports:
        outside = Memory.TOKENS if graph.tensors[root].channels_last else Memory.HOST
        return Memory.SRAM if spec.io_memory == "sram" else outside
    return Memory.DRAM if root in streamed else Memory.SRAM


def lifetimes(graph: Graph, groups: list[Group] | tuple[Group, ...]) -> dict[str, tuple[int, int]]:
    """First and last step at which each tensor that passes between groups must exist; outputs outlive the last step,
    and parts live as their whole map."""
    spans: dict[str, tuple[int, int]] = {}
    names: dict[str, str] = {}
    for step, group in enumerate(groups):
        for name in group.reads:
            root = names[name] = graph.root(name)
            first, _ = spans.get(root, (0, step))
            spans[root] = (first, step)
        root = names[group.output] = graph.root(group.output)
        first, _ = spans.get(root, (step, step))
        spans[root] = (first, step)
    for name in graph.outputs:
        if name in spans:
            spans[name] = (spans[name][0], len(groups))
    return spans | {name: spans[root] for name, root in names.items()}


def held_map_bytes(graph: Graph, name: str) -> int:
    """Memory of a map's own: none for a part of another one."""
    return 0 if name in graph.views else graph.tensors[name].size_bytes


def resident_bytes(graph: Graph, groups: list[Group] | tuple[Group, ...], where: dict[str, Memory]) -> list[int]:
    """Bytes of the maps in SRAM at each step. An output that replaces a dying operand takes no room of its own."""
    live = [0] * len(groups)
    spans = lifetimes(graph, groups)
    for name, (first, last) in spans.items():
        if where[name] is not Memory.SRAM:
            continue
        start = (
            first + 1
            if in_place_operand(groups[first], first, spans, where) and groups[first].output == name
            else first
        )
        for step in range(start, min(last + 1, len(groups))):
            live[step] += held_map_bytes(graph, name)
    return live


def in_place_operand(
    group: Group, step: int, spans: dict[str, tuple[int, int]], where: dict[str, Memory]
) -> str | None:
    """The operand whose memory the output of `group` may overwrite element by element, if any.

    Operands of element-wise operators are read exactly where the output is written; a gate is not. A residual that is
    also the input of a convolution is safe only in a chain that reads no row again that a stripe has written: one
    whose first convolution runs ahead by at least its padding.
    """
    if where[group.output] is not Memory.SRAM or not group.plain:
        return None
    first = group.ops[0]
    names = [group.second] if group.second and not isinstance(first, MatMul) else []
    if not isinstance(first, Conv2d) and is_elementwise(first):
        names = [group.input] if isinstance(first, Mul) and first.gate else list(group.reads)
    for name in names:
        reread = isinstance(first, Conv2d) and name == group.input
        if where[name] is Memory.SRAM and spans[name][1] == step and (not reread or _runs_ahead(group.ops)):
            return name
    return None


def _runs_ahead(ops: Sequence[Op]) -> bool:
    convs = [op for op in ops if isinstance(op, Conv2d)]
    return len(convs) > 1 and stages(convs, 1)[0].first_input_row >= 0
