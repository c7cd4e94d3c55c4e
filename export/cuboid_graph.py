"""Operator graphs of single cuboid-attention layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..common.errors import UnsupportedError
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.cuboid_parameters import CuboidParameters
from ..kernels.cuboid_quantise import Quantised, has_separate_projections, quantise
from ..kernels.kernel import splits
from ..kernels.ops import Shape
from ..kernels.search import candidates
from ..kernels.subgraph import Memory, Subgraph
from ..targets.spec import EngineSpec
from .graph import Graph, Node, Quantisation, Tensor

INPUT, OUTPUT, NODE = "x", "y", "attention"
GLOBALS, UPDATED = "g", "g_new"


def attention_op(p: CuboidParameters, *, global_vectors: int = 0, leaf: int = 1) -> CuboidAttention:
    """The shape-level operator of a layer. The cuboid is the clamped one: it decides what is computed."""
    t, h, w = p.cuboids.axes
    return CuboidAttention(
        size=p.cuboids.shape,
        channels=p.channels,
        heads=p.heads,
        cuboid=p.cuboids.cuboid,
        shift=(t.shift, h.shift, w.shift),
        strategy=(t.strategy, h.strategy, w.strategy),
        padding=p.cuboids.padding,
        biased=p.bias is not None,
        projected=p.out is not None,
        global_vectors=global_vectors,
        global_own=p.globals is not None and p.globals.own is not None,
        leaf=leaf,
        separate=has_separate_projections(p),
    )


def cuboid_graph(
    p: CuboidParameters, quantised: Quantised | None = None, *, global_vectors: int = 0, leaf: int = 1
) -> Graph:
    """The layer alone, from (T, H, W, C) to (T, H, W, C), and with `global_vectors` from (K, C) to (K, C) beside it,
    updated from leaves of at most `leaf` cuboids; without `quantised`, scales are those of normal noise."""
    if quantised is None:
        quantised = _noise_scales(p, global_vectors)
    op = attention_op(p, global_vectors=global_vectors, leaf=leaf)
    host, layer = (*op.size, op.channels), quantised.layer
    tensors = {
        INPUT: _tensor(INPUT, op.input, host, (quantised.input_scale, layer.input_zero)),
        OUTPUT: _tensor(OUTPUT, op.output, host, (quantised.output_scale, quantised.output_zero)),
    }
    if not global_vectors:
        return Graph((Node(NODE, op, (INPUT,), OUTPUT),), tensors, (INPUT,), (OUTPUT,), {NODE: layer})
    vectors = (global_vectors, op.channels)
    tensors[GLOBALS] = _tensor(GLOBALS, (1, *vectors), vectors, quantised.global_input)
    tensors[UPDATED] = _tensor(UPDATED, (1, *vectors), vectors, quantised.global_output)
    node = Node(NODE, op, (INPUT, GLOBALS), OUTPUT, extra=(UPDATED,))
    return Graph((node,), tensors, (INPUT, GLOBALS), (OUTPUT, UPDATED), {NODE: layer})


def _tensor(name: str, shape: Shape, host: tuple[int, ...], scale: tuple[float, int]) -> Tensor:
    return Tensor(name, shape, Quantisation(*scale), host, channels_last=True)


def _noise_scales(p: CuboidParameters, global_vectors: int) -> Quantised:
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((*p.cuboids.shape, p.channels))
    return quantise(p, [sample], [rng.standard_normal((global_vectors, p.channels))] if global_vectors else [])


def with_best_leaf(op: CuboidAttention, spec: EngineSpec) -> CuboidAttention:
    """The operator with the leaves that make it fastest on an engine, by closed form. Leaves decide in which order
    parts of the global vectors' attention are joined, so that they are chosen once, before constants are made.

    Raises:
        UnsupportedError: not even leaves of one cuboid fit.
    """
    found: list[tuple[float, CuboidAttention]] = []
    for leaf in splits(op.cuboids.count):
        choice = replace(op, leaf=leaf)
        try:
            (best,) = candidates(Subgraph((choice,), Memory.TOKENS, Memory.TOKENS, Memory.TOKENS), spec)
        except UnsupportedError:
            continue
        found.append((best.estimate.cycles, choice))
    if not found:
        raise UnsupportedError(f"cuboid attention with {op.global_vectors} global vectors does not fit {spec.name}")
    return min(found, key=lambda pair: (pair[0], pair[1].leaf))[1]


def with_best_leaves(graph: Graph, spec: EngineSpec) -> Graph:
    """The graph in which every layer with global vectors has the leaves of `with_best_leaf`.

    Raises:
        UnsupportedError: naming the node that does not fit.
    """
    return replace(graph, nodes=tuple(_with_leaf(node, spec) for node in graph.nodes))


def _with_leaf(node: Node, spec: EngineSpec) -> Node:
    if not isinstance(node.op, CuboidAttention) or not node.op.global_vectors:
        return node
    try:
        return replace(node, op=with_best_leaf(node.op, spec))
    except UnsupportedError as error:
        raise UnsupportedError(error.what, where=f"node {node.name!r}") from error
