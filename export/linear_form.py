"""Float ONNX → the same function in operators that quantise well: what a transformer's exporter writes in several ways.

* A linear layer on tokens, MatMul by a constant and an Add behind it or a Gemm, becomes a 1×1 convolution between
  transpositions: weights get one scale for each output and the bias 32 bits, and on the engine the transpositions are
  no more than another name for the same bytes.
* A constant factor for each channel behind it (layer scale) goes into weights and bias.
* Cuboid-attention layers stay as they are: the engine takes them whole.
* Operators on tensors whose first axis is no batch, such as the heads of a batched product, get a leading axis of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from .onnx_model import GraphIndex, attribute, check_model, copy_of, live_nodes, unique_names, with_static_shapes
from .patterns import FUNCTIONS
from .quantise import attention_layers, topological

_BATCHED = FUNCTIONS | {"MatMul", "Softmax", "LayerNormalization"}


def linear_form(model: ModelProto) -> ModelProto:
    """`model`, of float32 and with static shapes, with its linear layers as convolutions; see the module's text."""
    named = _Rewriting(model)
    kept = frozenset(name for match in attention_layers(named.model) for name in match.nodes)
    for rewrite in (_linear_layers, _batched):
        model = rewrite(model, kept)
    return model


@dataclass(slots=True)
class _Rewriting:
    """The nodes of a model as they are replaced."""

    model: ModelProto
    index: GraphIndex = field(init=False)
    nodes: list[NodeProto] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.model = copy_of(self.model)
        names = unique_names(node.name or f"{node.op_type}_{i}" for i, node in enumerate(self.model.graph.node))
        for node, name in zip(self.model.graph.node, names, strict=True):
            node.name = name
        self.index = GraphIndex(self.model)
        self.taken |= {*self.index.producer, *self.index.constants, *self.index.inputs, *names}

    def fresh(self, wanted: str) -> str:
        while wanted in self.taken:
            wanted += "_"
        self.taken.add(wanted)
        return wanted

    def constant(self, wanted: str, value: NDArray) -> str:
        name = self.fresh(wanted)
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op_type: str, name: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        made = output or self.fresh(f"{name}.out")
        self.nodes.append(helper.make_node(op_type, inputs, [made], name=name, **attributes))
        return made

    def reshape(self, name: str, source: str, shape: tuple[int, ...], output: str = "") -> str:
        wanted = self.constant(f"{name}.shape", np.array(shape, np.int64))
        return self.add("Reshape", self.fresh(name), [source, wanted], output)

    def finished(self, dropped: set[str]) -> ModelProto:
        """The model with the new nodes instead of the dropped ones; as it was where there are no new ones."""
        if not self.nodes:
            return self.model
        outputs = [v.name for v in self.model.graph.output]
        kept = [node for node in self.model.graph.node if node.name not in dropped]
        ordered = live_nodes(topological([*kept, *self.nodes], outputs), outputs)
        used = {name for node in ordered for name in node.input} | set(outputs)
        initialisers = [t for t in self.model.graph.initializer if t.name in used]
        del self.model.graph.node[:], self.model.graph.value_info[:], self.model.graph.initializer[:]
        self.model.graph.node.extend(ordered)
        self.model.graph.initializer.extend(sorted(initialisers, key=lambda t: t.name))
        check_model(self.model, where="linear layers as convolutions")
        return with_static_shapes(self.model)


def _batched(model: ModelProto, kept: frozenset[str]) -> ModelProto:
    """Compute operators on tensors without a batch axis work on tensors with one."""
    to = _Rewriting(model)
    lifted: dict[str, str] = {}
    dropped: set[str] = set()
    for node in to.index.nodes:
        if node.name in kept or not _lacks_batch(to.index, node):
            continue
        dropped.add(node.name)
        inputs = [_lifted(to, lifted, name) for name in node.input]
        copy = helper.make_node(node.op_type, inputs, [to.fresh(f"{node.output[0]}.batched")], name=node.name)
        copy.attribute.extend(_shifted(node))
        to.nodes.append(copy)
        lifted[node.output[0]] = copy.output[0]
        to.reshape(f"{node.name}.unbatched", copy.output[0], to.index.shape(node.output[0]), node.output[0])
    return to.finished(dropped)


def _lacks_batch(index: GraphIndex, node: NodeProto) -> bool:
    if node.op_type not in _BATCHED or len(node.output) != 1 or node.domain not in ("", "ai.onnx"):
        return False
    shape = index.shape(node.output[0])
    constant_matrix = node.op_type == "MatMul" and any(name in index.constants for name in node.input)
    return 2 <= len(shape) <= 3 and shape[0] != 1 and not constant_matrix


def _lifted(to: _Rewriting, lifted: dict[str, str], name: str) -> str:
    if not name or name in to.index.constants:
        return name
    if name not in lifted:
        lifted[name] = to.reshape(f"{name}.batch", name, (1, *to.index.shape(name)))
    return lifted[name]


def _shifted(node: NodeProto) -> list:
    """Attributes, with an axis that is counted from the front one further."""
    found = []
    for item in node.attribute:
        if item.name == "axis" and item.i >= 0:
            item = helper.make_attribute("axis", item.i + 1)
        found.append(item)
    return found


@dataclass(slots=True)
class _Linear:
    """x · weights + bias over the last axis (the last but one where `before`): weights [input][output]."""

    nodes: list[NodeProto]
    source: str
    weights: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    before: bool = False

    @property
    def output(self) -> str:
        return self.nodes[-1].output[0]


def _linear_layers(model: ModelProto, kept: frozenset[str]) -> ModelProto:
    to = _Rewriting(model)
    dropped: set[str] = set()
    for node in to.index.nodes:
        found = None if node.name in dropped | kept else _linear_at(to.index, node)
        if found is not None:
            dropped |= {member.name for member in found.nodes}
            _write(to, found)
    return to.finished(dropped)


def _linear_at(index: GraphIndex, node: NodeProto) -> _Linear | None:
    """The linear layer on tokens that begins with `node`, with what can be folded into it."""
    found = _matrix(index, node)
    if found is None:
        return None
    while index.is_leaf(found.output):
        (reader,) = index.consumers[found.output]
        if not _fold(index, found, reader):
            break
    return found


def _matrix(index: GraphIndex, node: NodeProto) -> _Linear | None:
    if node.op_type not in ("Gemm", "MatMul"):
        return None
    a, b = node.input[:2]
    shape = index.shape(node.output[0])
    if len(shape) == 2 and shape[0] == 1:
        return None  # a vector: the engine knows linear layers
    if node.op_type == "Gemm":
        plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta")) and not attribute(
            node, "transA", 0
        )
        bias = index.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1, np.float32)
        if (
            not plain
            or b not in index.constants
            or a in index.constants
            or bias is None
            or bias.size not in (1, shape[1])
        ):
            return None
        weights = index.constants[b].T if attribute(node, "transB", 0) else index.constants[b]
        return _Linear([node], a, weights, np.broadcast_to(bias.reshape(-1), (shape[1],)))
    if b in index.constants and index.constants[b].ndim == 2 and a not in index.constants:
        return _Linear([node], a, index.constants[b], None)
    if a in index.constants and index.constants[a].ndim == 2 and b not in index.constants and len(shape) == 3:
        return _Linear([node], b, index.constants[a].T, None, before=True) if shape[0] == 1 else None
    return None


def _fold(index: GraphIndex, found: _Linear, reader: NodeProto) -> bool:
    """Takes an addition or a factor of constants for each output into the layer."""
    if reader.op_type not in ("Add", "Mul") or reader.domain not in ("", "ai.onnx"):
        return False
    others = [name for name in reader.input if name != found.output]
    value = index.constants.get(others[0]) if len(others) == 1 else None
    outputs = found.weights.shape[1]
    if value is None or found.before or index.shape(reader.output[0]) != index.shape(found.output):
        return False
    if value.size != 1 and (value.size != outputs or value.shape[-1] != outputs):
        return False
    per_output = np.broadcast_to(value.reshape(-1), (outputs,)).astype(np.float32)
    bias = np.zeros(outputs, np.float32) if found.bias is None else found.bias
    if reader.op_type == "Add":
        found.bias = bias + per_output
    else:
        found.weights, found.bias = found.weights * per_output, bias * per_output
    found.nodes.append(reader)
    return True


def _write(to: _Rewriting, found: _Linear) -> None:
    """The layer as a convolution of (1, channels, positions, …)."""
    name, shape = found.nodes[0].name, to.index.shape(found.source)
    inputs, outputs = found.weights.shape
    weights = to.constant(f"{name}.weight", found.weights.T.reshape(outputs, inputs, 1, 1).astype(np.float32))
    operands = [weights, *([to.constant(f"{name}.bias", found.bias)] if found.bias is not None else [])]
    final = to.index.shape(found.output)
    if found.before:
        source = to.reshape(f"{name}.map", found.source, (1, inputs, shape[-1], 1))
        made = to.add("Conv", name, [source, *operands])
        to.reshape(f"{name}.back", made, final, found.output)
        return
    extents = shape[1:3] if len(shape) == 4 and shape[0] == 1 else (prod(shape[:-1]), 1)
    source = found.source
    if len(shape) != 4 or shape[0] != 1:
        source = to.reshape(f"{name}.tokens", source, (1, *extents, inputs))
    source = to.add("Transpose", to.fresh(f"{name}.first"), [source], perm=[0, 3, 1, 2])
    made = to.add("Conv", name, [source, *operands])
    if final == (1, *extents, outputs):
        to.add("Transpose", to.fresh(f"{name}.last"), [made], found.output, perm=[0, 2, 3, 1])
        return
    last = to.add("Transpose", to.fresh(f"{name}.last"), [made], perm=[0, 2, 3, 1])
    to.reshape(f"{name}.back", last, final, found.output)
