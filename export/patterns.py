"""Groups of float operators that the engine runs as one: functions of one element, and normalisations.

Both readings of a model use them: the quantiser on the float model, so that no rounding happens inside of a group,
and the importer between a DequantizeLinear and a QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .onnx_model import DEQUANTISE, GraphIndex, attribute

_ACTIVATIONS = frozenset({"Relu", "Clip"})  # these alone are no function worth a table: they clamp
_UNARY = _ACTIVATIONS | {
    "Abs", "Celu", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish", "Neg",
    "Reciprocal", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
}  # fmt: skip
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"})
FUNCTIONS = frozenset(_UNARY | _ARITHMETIC)
NORMALISATIONS = frozenset({"LayerNormalization", "InstanceNormalization", "GroupNormalization"})


@dataclass(frozen=True, slots=True)
class Unary:
    """`nodes`, in execution order, compute one tensor element by element from tensor `source` and from constants."""

    source: str
    nodes: tuple[NodeProto, ...]

    @property
    def output(self) -> str:
        return self.nodes[-1].output[0]

    def evaluate(self, index: GraphIndex, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The function at each of `values`, by ONNX's own reference implementation; NaN where it has no value."""
        from onnx.reference import ReferenceEvaluator

        names = {name for node in self.nodes for name in node.input if name} - {self.source}
        constants = {name: found for name in names if (found := constant(index, name)) is not None}
        graph = helper.make_graph(
            self.nodes, "function",
            [helper.make_tensor_value_info(self.source, TensorProto.FLOAT, values.shape)],
            [helper.make_tensor_value_info(self.output, TensorProto.FLOAT, values.shape)],
            [numpy_helper.from_array(value.reshape(()), name) for name, value in constants.items()],
        )  # fmt: skip
        opsets = [entry for entry in index.model.opset_import if entry.domain in ("", "ai.onnx")]
        with np.errstate(all="ignore"):
            (found,) = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(
                None, {self.source: values}
            )
        return np.broadcast_to(np.asarray(found, np.float32), values.shape)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """(x − mean) / √(variance + epsilon) × gamma + beta of tensor `source`, as `nodes` compute it.

    Over `groups` groups of channels of a (1, C, …) tensor and, with `over_map`, all positions; a layer norm over the
    last axis. One gamma and beta for
    each channel.
    """

    source: str
    nodes: tuple[NodeProto, ...]
    groups: int
    over_map: bool
    gamma: NDArray[np.float64]
    beta: NDArray[np.float64]
    epsilon: float

    @property
    def output(self) -> str:
        return self.nodes[-1].output[0]


Pattern = Unary | Normalisation


def constant(index: GraphIndex, name: str) -> NDArray | None:
    """A constant tensor, dequantised where it is stored as integers; None for anything computed."""
    if name in index.constants:
        return index.constants[name]
    source = index.producer.get(name)
    if source is None or source.op_type != DEQUANTISE or source.input[0] not in index.constants:
        return None
    params = index.params(source)
    if params is None or not params.per_tensor:
        return None
    stored = index.constants[source.input[0]].astype(np.float32)
    return (stored - params.zero_point.astype(np.float32).reshape(())) * params.scale.reshape(())


def pattern_at(index: GraphIndex, node: NodeProto) -> Pattern | None:
    """The pattern that ends with `node`; None when there is none."""
    if node.domain not in ("", "ai.onnx"):
        return None
    return normalisation_at(index, node) or unary_at(index, node)


def patterns(index: GraphIndex) -> list[Pattern]:
    """Patterns of a float model that share no operator, the largest first where they would."""
    found: list[Pattern] = []
    taken: set[str] = set()
    for node in reversed(index.nodes):
        pattern = None if node.output[0] in taken else pattern_at(index, node)
        if pattern is not None and not any(member.output[0] in taken for member in pattern.nodes):
            found.append(pattern)
            taken.update(member.output[0] for member in pattern.nodes)
    return found


def unary_at(index: GraphIndex, node: NodeProto) -> Unary | None:
    """The largest function of one tensor whose last operator is `node`."""
    if not _is_function(node):
        return None
    members = [node]
    found: Unary | None = None
    while True:
        leaves = _leaves(index, members)
        found = _function_of(index, members, leaves) or found
        inner = next((p for leaf in leaves if (p := _inner(index, leaf, members)) is not None), None)
        if inner is None:
            return found
        members.append(inner)


def _function_of(index: GraphIndex, members: list[NodeProto], leaves: Iterable[str]) -> Unary | None:
    """The members as a function, if they have one leaf, keep its shape, and are more than a clamp."""
    source, *others = (*leaves, None)
    if source is None or others[:-1] or all(member.op_type in _ACTIVATIONS for member in members):
        return None
    if any(index.shape(member.output[0]) != index.shape(source) for member in members):
        return None
    order = {item.output[0]: number for number, item in enumerate(index.nodes)}
    return Unary(source, tuple(sorted(members, key=lambda member: order[member.output[0]])))


def _is_function(node: NodeProto) -> bool:
    return node.op_type in FUNCTIONS and node.domain in ("", "ai.onnx") and len(node.output) == 1


def _leaves(index: GraphIndex, members: Iterable[NodeProto]) -> dict[str, None]:
    """Tensors from outside that are no constants of one element, in a fixed order."""
    inside = {member.output[0] for member in members}
    names = dict.fromkeys(name for member in members for name in member.input if name and name not in inside)
    return {name: None for name in names if not _is_scalar(index, name)}


def _is_scalar(index: GraphIndex, name: str) -> bool:
    value = constant(index, name)
    return value is not None and value.size == 1


def _inner(index: GraphIndex, leaf: str, members: Iterable[NodeProto]) -> NodeProto | None:
    """The operator behind a leaf, if nobody but the members needs its result."""
    producer = index.producer.get(leaf)
    if producer is None or not _is_function(producer) or leaf in index.outputs:
        return None
    inside = {member.output[0] for member in members}
    return producer if all(reader.output[0] in inside for reader in index.consumers[leaf]) else None


def normalisation_at(index: GraphIndex, node: NodeProto) -> Normalisation | None:
    """The normalisation that ends with `node`: one operator, or torch's InstanceNormalization between reshapes."""
    direct = _DIRECT.get(node.op_type)
    if direct is not None:
        return direct(index, node)
    return _reshaped(index, node)


def _layer(index: GraphIndex, node: NodeProto) -> Normalisation | None:
    """LayerNormalization over the features of a vector (1, C), of tokens (1, N, C) or of a map (1, H, W, C)."""
    shape = index.shape(node.input[0])
    last = len(shape) - 1
    if last not in (1, 2, 3) or attribute(node, "axis", -1) % len(shape) != last or sum(map(bool, node.output)) != 1:
        return None
    return _scaled(index, node, groups=1, over_map=False, axis=last)


def _instance(index: GraphIndex, node: NodeProto) -> Normalisation | None:
    """InstanceNormalization of a feature map: every channel is a group."""
    shape = index.shape(node.input[0])
    return _scaled(index, node, groups=shape[1], over_map=True) if len(shape) == 4 else None


def _group(index: GraphIndex, node: NodeProto) -> Normalisation | None:
    shape = index.shape(node.input[0])
    if len(shape) not in (2, 4):
        return None
    return _scaled(index, node, groups=int(attribute(node, "num_groups", 1)), over_map=True)


def _scaled(index: GraphIndex, node: NodeProto, *, groups: int, over_map: bool, axis: int = 1) -> Normalisation | None:
    """With the scale and offset operands of a single operator: one for each channel or, in old models, each group."""
    channels = index.shape(node.input[0])[axis]
    gamma = _per_channel(index, node.input[1], channels, groups)
    missing = len(node.input) < 3 or not node.input[2]
    beta = np.zeros(channels) if missing else _per_channel(index, node.input[2], channels, groups)
    if gamma is None or beta is None:
        return None
    epsilon = float(attribute(node, "epsilon", 1e-5))
    return Normalisation(node.input[0], (node,), groups, over_map, gamma, beta, epsilon)


def _per_channel(index: GraphIndex, name: str, channels: int, groups: int) -> NDArray[np.float64] | None:
    value = constant(index, name)
    if value is None or value.size not in (1, groups, channels):
        return None
    flat = value.astype(np.float64).reshape(-1)
    return np.repeat(flat, channels // flat.size) if channels % flat.size == 0 else None


def _reshaped(index: GraphIndex, node: NodeProto) -> Normalisation | None:
    """Group norm as torch exports it: Reshape to (1, groups, …), InstanceNormalization, Reshape back, Mul, Add."""
    shape = index.shape(node.output[0]) if node.op_type in ("Add", "Mul", "Reshape") else ()
    if len(shape) != 4:
        return None
    channels = shape[1]
    trail: list[NodeProto] = []
    at, beta = _affine(index, node, "Add", channels, trail, np.zeros(channels))
    at, gamma = _affine(index, at, "Mul", channels, trail, np.ones(channels))
    if at is None or at.op_type != "Reshape":
        return None
    first = _producer(index, at, "InstanceNormalization")
    opening = None if first is None else _producer(index, first, "Reshape")
    if first is None or opening is None:
        return None
    groups = index.shape(opening.output[0])[1]
    own = [_per_channel(index, name, channels, groups) for name in first.input[1:3]]
    if index.shape(opening.input[0]) != shape or channels % groups or own[0] is None or own[1] is None:
        return None
    nodes = (opening, first, at, *reversed(trail))
    epsilon = float(attribute(first, "epsilon", 1e-5))
    return Normalisation(opening.input[0], nodes, groups, True, own[0] * gamma, own[1] * gamma + beta, epsilon)


def _affine(
    index: GraphIndex, node: NodeProto | None, op_type: str, channels: int, trail: list[NodeProto], neutral: NDArray
) -> tuple[NodeProto | None, NDArray[np.float64]]:
    """Steps back over a Mul or Add with a constant for each channel: what comes before it, and the constant."""
    if node is None or node.op_type != op_type:
        return node, neutral
    for value_name, other in (node.input, node.input[::-1]):
        value = constant(index, value_name)
        if value is not None and value.shape[-3:] == (channels, 1, 1) and value.size == channels:
            source = index.producer.get(other)
            if source is None or not index.is_leaf(other):
                return None, neutral
            trail.append(node)
            return source, value.astype(np.float64).reshape(-1)
    return None, neutral


def _producer(index: GraphIndex, node: NodeProto, op_type: str) -> NodeProto | None:
    """The operator of this type that makes the first input of `node` for nobody else."""
    found = index.producer.get(node.input[0])
    wanted = found is not None and found.op_type == op_type and index.is_leaf(node.input[0])
    return found if wanted else None


_DIRECT: dict[str, Callable[[GraphIndex, NodeProto], Normalisation | None]] = {
    "LayerNormalization": _layer, "InstanceNormalization": _instance, "GroupNormalization": _group,
}  # fmt: skip
