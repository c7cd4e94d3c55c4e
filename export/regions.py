"""Regions: sets of engine operators that run as one program, and the host model that calls them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from onnx import ModelProto, NodeProto, helper

from .graph import Constants, Graph, Tensor
from .onnx_model import GraphIndex, attribute, copy_of, live_nodes
from .quantise import topological
from .site_maps import Piece

REGION, UNIT, DOMAIN = "LanefitRegion", "LanefitUnit", "lanefit"
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Region:
    """Engine operators that run without the CPU in between; borders are stored int8 tensors."""

    index: int
    graph: Graph

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.graph.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.graph.outputs


def depths(order: Sequence[K], producers: Mapping[K, Iterable[K]], place: Mapping[K, str]) -> dict[K, int]:
    """How often the placement changes on the way to each node, at most; `order` is topological.

    Nodes of one placement and one depth form a convex set: a path that leaves it comes back at a greater depth.
    """
    depth: dict[K, int] = {}
    for node in order:
        depth[node] = max((depth[p] + (place[p] != place[node]) for p in producers.get(node, ())), default=0)
    return depth


def form_regions(model: ModelProto, pieces: Mapping[str, Piece]) -> tuple[ModelProto, tuple[Region, ...]]:
    """The host model, in which one node stands for each region, and the regions in the order of their execution.

    `pieces` are the engine's parts by the name of the operator that they replace.
    """
    units = _unit_model(model, pieces)
    nodes = {node.name: node for node in units.graph.node}
    index = GraphIndex(units)
    place = {name: "engine" if node.op_type == UNIT else "cpu" for name, node in nodes.items()}
    producers = {
        name: [index.producer[i].name for i in node.input if i in index.producer] for name, node in nodes.items()
    }
    depth = depths(list(nodes), producers, place)
    groups: dict[int, list[str]] = {}
    for name in nodes:
        if place[name] == "engine":
            groups.setdefault(depth[name], []).append(name)
    regions = tuple(_region(i, groups[key], pieces, index) for i, key in enumerate(sorted(groups)))
    return _host_model(units, regions), regions


def _unit_model(model: ModelProto, pieces: Mapping[str, Piece]) -> ModelProto:
    """`model` with one node for each piece, and without what only the replaced operators needed."""
    replaced = {name for piece in pieces.values() for node in piece.nodes for name in node.source}
    nodes = [node for node in model.graph.node if node.name not in replaced]
    nodes += [_unit(name, piece) for name, piece in pieces.items()]
    return _with_nodes(model, nodes)


def _unit(name: str, piece: Piece) -> NodeProto:
    made = {*piece.fixed, *(output for node in piece.nodes for output in (node.output, *node.extra))}
    inputs = dict.fromkeys(i for node in piece.nodes for i in node.inputs if i not in made)
    return helper.make_node(UNIT, list(inputs), list(_results(piece)), name=name, domain=DOMAIN)


def _results(piece: Piece) -> tuple[str, ...]:
    """What a piece gives to others: the map of its last node, and further outputs of it."""
    return (piece.nodes[-1].output, *piece.nodes[-1].extra)


def _region(number: int, names: list[str], pieces: Mapping[str, Piece], index: GraphIndex) -> Region:
    inside = [pieces[name] for name in names]
    nodes = tuple(node for piece in inside for node in piece.nodes)
    fixed = tuple(name for piece in inside for name in piece.fixed)
    made = {*fixed, *(output for node in nodes for output in (node.output, *node.extra))}
    tensors: dict[str, Tensor] = {t.name: t for piece in inside for t in piece.tensors}
    constants: dict[str, Constants] = {k: v for piece in inside for k, v in piece.constants.items()}
    inputs = tuple(dict.fromkeys(i for node in nodes for i in node.inputs if i not in made))
    own = set(names)
    outputs = tuple(
        name
        for piece in inside
        for name in _results(piece)
        if name in index.outputs or any(reader.name not in own for reader in index.consumers[name])
    )
    return Region(number, Graph(nodes, tensors, inputs, outputs, constants, fixed=fixed))


def _host_model(units: ModelProto, regions: Sequence[Region]) -> ModelProto:
    nodes = [node for node in units.graph.node if node.op_type != UNIT]
    for region in regions:
        name = f"region.{region.index}"
        nodes.append(
            helper.make_node(
                REGION, list(region.inputs), list(region.outputs), name=name, domain=DOMAIN, region=region.index
            )
        )
    return _with_nodes(units, nodes)


def _with_nodes(model: ModelProto, nodes: list[NodeProto]) -> ModelProto:
    """`model` around other nodes: ordered, without dead ones and without constants that nobody reads."""
    result = copy_of(model)
    outputs = [v.name for v in model.graph.output]
    ordered = live_nodes(topological(nodes, outputs), outputs)
    used = {name for node in ordered for name in node.input} | set(outputs)
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(ordered)
    result.graph.initializer.extend(t for t in model.graph.initializer if t.name in used)
    if not any(entry.domain == DOMAIN for entry in result.opset_import):
        result.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return result


def region_number(node: NodeProto) -> int | None:
    """Index of the region that a node of the host model stands for; None for a CPU operator."""
    return int(attribute(node, "region")) if node.domain == DOMAIN and node.op_type == REGION else None
