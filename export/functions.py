"""Constants of the vector unit's operators, by node: tables, and the records of a normalisation, as bytes for DRAM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ModelError
from ..kernels.cuboid_constants import constant_blob, float_blob
from ..kernels.cuboid_float import FloatAttention
from ..kernels.cuboid_integer import IntegerAttention
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.function_ops import Norm, Softmax, Table
from ..kernels.tables import Exponentials, float_table, int16_points, int16_table, norm_epsilon, norm_records
from ..targets.elements import float_bits
from ..targets.table_float import FloatTable
from .graph import FunctionConstants, Graph, MapConstants, Node, NormConstants, TableConstants


def table_of(graph: Graph, node: Node) -> TableConstants:
    """The table of a node; `ModelError` in a shape-only graph."""
    found = graph.constants.get(node.name)
    if not isinstance(found, TableConstants):
        raise ModelError("the graph has shapes but no table", where=f"node {node.name!r}")
    return found


def _function_of(graph: Graph, node: Node) -> FunctionConstants:
    found = graph.constants.get(node.name)
    if not isinstance(found, FunctionConstants):
        raise ModelError("the graph has shapes but no function", where=f"node {node.name!r}")
    return found


def points_of(graph: Graph, node: Node) -> NDArray[np.int16]:
    """The table of a node of int16 maps; `ModelError` in a shape-only graph."""
    scales = [graph.tensors[name].quantisation.scale for name in (node.inputs[0], node.output)]
    return int16_table(_function_of(graph, node).function, scales[0], scales[1])


def floats_of(graph: Graph, node: Node) -> FloatTable:
    """The table of a node of bf16 maps; `ModelError` in a shape-only graph."""
    found = _function_of(graph, node)
    return float_table(found.function, found.reach)


def norm_of(graph: Graph, node: Node) -> NormConstants:
    """Scales and offsets of a normalisation; `ModelError` in a shape-only graph."""
    found = graph.constants.get(node.name)
    if not isinstance(found, NormConstants):
        raise ModelError("the graph has shapes but no scales of its normalisation", where=f"node {node.name!r}")
    return found


def attention_of(graph: Graph, node: Node) -> IntegerAttention:
    """The integers of cuboid attention; `ModelError` in a shape-only graph, or where its tensors contradict them."""
    found = graph.constants.get(node.name)
    if not isinstance(found, IntegerAttention):
        raise ModelError("the graph has shapes but no matrices of its attention", where=f"node {node.name!r}")
    zeros = tuple(graph.tensors[name].quantisation.zero_point for name in (node.inputs[0], node.output))
    if zeros != (found.input_zero, found.output_zero):
        stated = f"attention with zero points {found.input_zero} and {found.output_zero}"
        raise ModelError(f"{stated} between tensors with {zeros}", where=f"node {node.name!r}")
    return found


def float_attention_of(graph: Graph, node: Node) -> FloatAttention:
    """The matrices of cuboid attention in bf16; `ModelError` in a shape-only graph."""
    found = graph.constants.get(node.name)
    if not isinstance(found, FloatAttention):
        raise ModelError("the graph has shapes but no matrices of its attention", where=f"node {node.name!r}")
    return found


def fixed_map(graph: Graph, name: str) -> NDArray[np.int8]:
    """The elements of a constant map; `ModelError` in a shape-only graph."""
    found = graph.constants.get(name)
    if not isinstance(found, MapConstants) or found.values.shape != graph.tensors[name].shape:
        raise ModelError("the graph has shapes but not the elements of its constant map", where=f"map {name!r}")
    return found.values


def function_bytes(graph: Graph, node: Node) -> bytes:
    """What the instruction of `node` finds in SRAM."""
    op = node.op
    source, target = (graph.tensors[name].quantisation.scale for name in (node.inputs[0], node.output))
    if isinstance(op, Softmax):
        return Exponentials.of(source).as_bytes()
    if isinstance(op, Table):
        return _table_bytes(graph, node, op)
    if isinstance(op, CuboidAttention) and op.dtype == "bf16":
        return float_blob(op, float_attention_of(graph, node))
    if isinstance(op, CuboidAttention):
        return constant_blob(op, attention_of(graph, node))
    assert isinstance(op, Norm)
    found = norm_of(graph, node)
    if op.dtype == "bf16":
        return np.stack([found.beta, found.gamma, np.zeros(len(found.beta))], axis=1).astype("<f4").tobytes()
    return norm_records(op, found.gamma, found.beta, target).as_bytes()


def _table_bytes(graph: Graph, node: Node, op: Table) -> bytes:
    if op.dtype == "bf16":
        return floats_of(graph, node).as_bytes()
    return int16_points(points_of(graph, node)) if op.dtype == "int16" else table_of(graph, node).values.tobytes()


def second_epsilon(graph: Graph, node: Node) -> int:
    """The same of global vectors; 0 where there are none."""
    if not isinstance(node.op, CuboidAttention) or not node.op.global_vectors:
        return 0
    found = attention_of(graph, node).globals
    assert found is not None
    return found.norm.epsilon


def stage_epsilon(graph: Graph, node: Node) -> int:
    """The epsilon of a normalisation in integers, for bf16 the bits of its float32; 0 for operators without one."""
    if isinstance(node.op, CuboidAttention) and node.op.dtype == "bf16":
        return float_bits(float_attention_of(graph, node).epsilon)
    if isinstance(node.op, CuboidAttention):
        return attention_of(graph, node).norm.epsilon
    if not isinstance(node.op, Norm):
        return 0
    epsilon = norm_of(graph, node).epsilon
    if node.op.dtype == "bf16":
        return float_bits(epsilon)
    return norm_epsilon(node.op, epsilon, graph.tensors[node.inputs[0]].quantisation.scale)
