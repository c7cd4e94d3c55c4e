"""ONNX model → `OperatorGraph`: what an optimising runtime would have to execute.

Constants are folded, dead operators dropped, normalisation is part of the convolution before it, and equal operators of
one input are one. A QuantizeLinear/DequantizeLinear pair around an operator makes the operator one on integers; pairs
that do convert between floats and integers stay as operators. Nothing is left out for being unknown.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from ...common.errors import ModelError
from ...export.normalise import normalise
from ...export.onnx_export import simplify
from ...export.onnx_model import DEQUANTISE, QUANTISE, GraphIndex, copy_of, live_nodes, load_model
from ...export.quantise import is_quantised
from .graph import OperatorGraph, OperatorNode
from .onnx_operators import Operands, element_type, to_operator
from .operator import Kind, Operator, Shape
from .rewrite import compose_gelu

_PASSED_ON = frozenset({"Identity", "Dropout"})
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def read_onnx(path: Path, input_shape: tuple[int, ...] | None = None) -> OperatorGraph:
    """The operator graph of an ONNX file; `input_shape` replaces the dynamic dimensions of an only input.

    Raises:
        InputError: no readable file.
        ModelError: no valid ONNX model, dynamic shapes, or a batch other than 1.
    """
    return operator_graph(load_model(path), input_shape)


def operator_graph(model: ModelProto, input_shape: tuple[int, ...] | None = None) -> OperatorGraph:
    """The operator graph of a model in memory; see `read_onnx`."""
    prepared = normalise(model, input_shape) if is_quantised(model) else simplify(model, input_shape)
    return compose_gelu(_Reader(GraphIndex(_merged(prepared))).graph())


def _merged(model: ModelProto) -> ModelProto:
    """One node in place of several that do the same to the same tensors, constants and attributes included."""
    outputs = {value.name for value in model.graph.output}
    first: dict[bytes, NodeProto] = {}
    renamed: dict[str, str] = {}
    merged = copy_of(model)
    del merged.graph.node[:]
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        twin = first.setdefault(_identity(node), node)
        if twin is node or node.op_type in _RANDOM or outputs.intersection(node.output):
            merged.graph.node.append(node)
        else:
            renamed.update(zip(node.output, twin.output, strict=True))
    return merged


def _identity(node: NodeProto) -> bytes:
    """Everything about a node but its name and the names of its results."""
    bare = NodeProto()
    bare.CopyFrom(node)
    bare.name = ""
    bare.output[:] = [str(bool(name)) for name in node.output]
    return bare.SerializeToString(deterministic=True)


class _Reader:
    """Walks the nodes of a model in order; `_known` holds what can be computed before the model runs."""

    def __init__(self, index: GraphIndex) -> None:
        self.index = index
        self._order = live_nodes(index.nodes, index.outputs)
        self._known: dict[str, NDArray] = dict(index.constants)
        for node in self._order:
            if node.op_type not in _RANDOM and all(name in self._known for name in node.input if name):
                self._known.update({name: self._constant(node, name) for name in node.output if name})
        self._integer = self._integer_nodes()

    def graph(self) -> OperatorGraph:
        nodes: list[OperatorNode] = []
        for node in self._order:
            if node.output[0] not in self._known and not self._is_transparent(node):
                nodes += self._operators(node)
        sources = {name: self.index.shape(name) for name in self.index.inputs}
        outputs = [self._resolve(name, integer=False) for name in self.index.outputs]
        constants = [self._known_output(name) for name in outputs if name in self._known]
        return OperatorGraph.of([*constants, *nodes], sources, outputs)

    def _constant(self, node: NodeProto, name: str) -> NDArray:
        """A stand-in of the right shape and type: the values of a folded constant never matter to its cost."""
        if node.op_type == DEQUANTISE:
            return self._known[node.input[0]]
        dtype = self.index.dtype(name)
        return np.ones(self.index.shape(name), dtype if dtype is not None else np.float32)

    def _known_output(self, name: str) -> OperatorNode:
        value = self._known[name]
        return OperatorNode(name, Operator(Kind.CONSTANT, (), _extents(value.shape), dtype=str(value.dtype)), ())

    def _operators(self, node: NodeProto) -> list[OperatorNode]:
        """One node for the first used output, and one for each other result that is used (of Split, of TopK)."""
        integer = self._reads_integers(node)
        runtime = [n for n in node.input if n and n not in self._known]
        names = tuple(self._resolve(name, integer=integer) for name in runtime)
        constants = {i: self._known[n] for i, n in enumerate(node.input) if n in self._known}
        used = [name for name in node.output if name and self._is_used(name)]
        found: list[OperatorNode] = []
        for output in used:
            shapes = tuple(_extents(self.index.shape(name)) for name in names)
            operands = Operands(
                shapes, _extents(self.index.shape(output)), constants, self._dtype(node, runtime, output)
            )
            found.append(OperatorNode(output, to_operator(node, operands), names))
        return found

    def _is_used(self, name: str) -> bool:
        return name in self.index.outputs or bool(self.index.consumers[name])

    def _dtype(self, node: NodeProto, runtime: list[str], output: str) -> str:
        """The type of what is read, or written where nothing is read; of conversions that of the integers."""
        wanted = runtime[0] if runtime and node.op_type != QUANTISE else output
        if node.name in self._integer:
            wanted = self._stored(self._resolve(wanted, integer=True))
        return element_type(self.index.dtype(wanted), wanted)

    def _stored(self, name: str) -> str:
        """A tensor on the integer path as it is stored: behind the quantise that follows, or the dequantise before."""
        while True:
            readers = self.index.consumers[name]
            producer = self.index.producer.get(name)
            quantised = next((r for r in readers if r.op_type == QUANTISE), None)
            if quantised is not None:
                return quantised.output[0]
            if producer is None or producer.name not in self._integer:
                return name
            name = readers[0].output[0]

    def _resolve(self, name: str, *, integer: bool) -> str:
        """The value that a reader of `name` really reads, past operators that are no work of their own."""
        while (node := self.index.producer.get(name)) is not None and name not in self._known:
            past = node.op_type in _PASSED_ON or (integer and node.op_type == DEQUANTISE)
            if not past and not self._follows_integers(node):
                break
            name = node.input[0]
        return name

    def _is_transparent(self, node: NodeProto) -> bool:
        """Nothing executes: passed on, written as integers at once, or read as integers by everybody."""
        if node.op_type in _PASSED_ON or self._follows_integers(node):
            return True
        if node.op_type != DEQUANTISE or node.output[0] in self.index.outputs:
            return False
        return all(self._reads_integers(reader) for reader in self.index.consumers[node.output[0]])

    def _follows_integers(self, node: NodeProto) -> bool:
        """A quantise behind an operator on integers is that operator's way of writing."""
        producer = self.index.producer.get(node.input[0]) if node.op_type == QUANTISE else None
        return producer is not None and producer.name in self._integer

    def _reads_integers(self, node: NodeProto) -> bool:
        return node.name in self._integer or node.op_type == DEQUANTISE

    def _integer_nodes(self) -> set[str]:
        """Operators that read dequantised values only and whose results are all quantised, alone or as a chain."""
        chosen = {
            node.name
            for node in self._order
            if node.op_type not in (QUANTISE, DEQUANTISE) and node.output[0] not in self._known
        }
        while True:
            kept = {node.name for node in self._order if node.name in chosen and self._stays(node, chosen)}
            if kept == chosen:
                return kept
            chosen = kept

    def _stays(self, node: NodeProto, chosen: set[str]) -> bool:
        sources = [self.index.producer.get(name) for name in node.input if name and name not in self._known]
        fed = all(s is not None and (s.op_type == DEQUANTISE or s.name in chosen) for s in sources)
        readers = self.index.consumers[node.output[0]]
        drained = all(r.op_type == QUANTISE or r.name in chosen for r in readers)
        return fed and drained and bool(sources) and bool(readers) and node.output[0] not in self.index.outputs


def _extents(shape: Shape) -> Shape:
    if any(extent < 1 for extent in shape):
        raise ModelError(f"a tensor of shape {shape} is empty", hint="export the model without empty tensors")
    return tuple(int(extent) for extent in shape)
