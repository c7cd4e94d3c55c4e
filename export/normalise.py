"""QDQ ONNX → its one canonical form, by rewrites that change no value.

After `normalise`: unique node names; static shapes, batch 1; constants are initialisers; weights are stored
integers; activations are int8; views (reshape, flatten ...) of stored tensors act on the stored integers; no
quantise undoes the dequantise before it; no dead operators; nodes in topological order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from ..common.errors import ModelError
from .onnx_model import (
    DEQUANTISE,
    OPSET,
    QUANTISE,
    GraphIndex,
    QuantParams,
    attribute,
    check_model,
    copy_of,
    live_nodes,
    unique_names,
    with_static_shapes,
)
from .operands import is_link
from .quantise import attention_layers, is_quantised, topological

_SPLIT = "InstanceNormalization"
_NOTHING = frozenset({"Identity", "Dropout"})


def normalise(model: ModelProto, input_shape: tuple[int, ...] | None = None) -> ModelProto:
    """The canonical form of a QDQ model; float models, dynamic shapes and batches raise `ModelError`."""
    if not is_quantised(model):
        hint = "give calibration data, so that the model can be quantised"
        raise ModelError("the model is not quantised", where=model.graph.name, hint=hint)
    model = _named(with_static_shapes(_lifted_constants(model), input_shape))
    whole = frozenset(name for match in attention_layers(model, seen=True) for name in match.nodes)
    for rewrite in _REWRITES:
        model = _cleaned(rewrite(model))
    for settle in (_sunk_views, _stored_views):
        model = _cleaned(settle(model, whole))
    model = _cleaned(_without_round_trips(model))
    check_model(model, where="after normalisation")
    return _typed(model)


def quantised_values(real: NDArray[np.float32], scale: NDArray, zero_point: NDArray, axis: int) -> NDArray:
    """QuantizeLinear of a constant: round half to even, saturate."""
    if scale.size > 1:
        shape = [1] * real.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    limits = np.iinfo(zero_point.dtype)
    stored = np.rint(real / scale) + zero_point.astype(np.float32)
    return np.clip(stored, limits.min, limits.max).astype(zero_point.dtype)


def _lifted_constants(model: ModelProto) -> ModelProto:
    """Constant operators become initialisers."""
    model = copy_of(model)
    kept = []
    for node in model.graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def _named(model: ModelProto) -> ModelProto:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.get("", OPSET) < 13:
        hint = f"export the model with opset {OPSET} or later"
        raise ModelError(f"quantised model at opset {versions['']}, per-channel scales need 13", hint=hint)
    wanted = (node.name or f"{node.op_type}_{i}" for i, node in enumerate(model.graph.node))
    for node, name in zip(model.graph.node, unique_names(wanted), strict=True):
        node.name = name
    return model


def _cleaned(model: ModelProto) -> ModelProto:
    graph = model.graph
    outputs = [v.name for v in graph.output]
    nodes = live_nodes(topological(list(graph.node), outputs), outputs)
    used = {n for node in nodes for n in node.input} | set(outputs)
    initialisers = sorted((t for t in graph.initializer if t.name in used), key=lambda t: t.name)
    result = copy_of(model)
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(initialisers)
    return result


class _Edit:
    """A model being rewritten: new names, constants, and references that move from one tensor to another."""

    def __init__(self, model: ModelProto) -> None:
        self.model = copy_of(model)
        self.index = GraphIndex(self.model)
        self._names = set(self.index.producer) | set(self.index.constants) | set(self.index.inputs)
        self._nodes = {node.name for node in self.index.nodes}

    def fresh(self, wanted: str) -> str:
        while wanted in self._names or wanted in self._nodes:
            wanted += "_"
        self._names.add(wanted)
        return wanted

    def constant(self, wanted: str, value: NDArray) -> str:
        name = self.fresh(wanted)
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op_type: str, inputs: list[str], output: str, name: str, axis: int) -> None:
        self.model.graph.node.append(helper.make_node(op_type, inputs, [output], name=self.fresh(name), axis=axis))

    def redirect(self, old: str, new: str) -> bool:
        """Readers of `old` read `new`; refused, with False, for an output of the model."""
        if old in self.index.outputs:
            return False
        for node in self.model.graph.node:
            node.input[:] = [new if n == old else n for n in node.input]
        return True


def _without_identities(model: ModelProto) -> ModelProto:
    """Identity and (outside of training) Dropout only pass their input on."""
    edit = _Edit(model)
    for node in edit.index.nodes:
        if node.op_type in _NOTHING:
            edit.redirect(node.output[0], node.input[0])
    return edit.model


def _folded_weights(model: ModelProto) -> ModelProto:
    """QuantizeLinear of a constant is evaluated now."""
    edit = _Edit(model)
    for node, params in _of_type(edit, QUANTISE):
        value = edit.index.constants.get(node.input[0])
        if value is not None:
            stored = quantised_values(value, params.scale, params.zero_point, params.axis)
            edit.redirect(node.output[0], edit.constant(f"{node.output[0]}.stored", stored))
    return edit.model


def _signed_weights(model: ModelProto) -> ModelProto:
    """Unsigned stored constants become signed: value and zero point move down by 128 together."""
    edit = _Edit(model)
    for node, params in _of_type(edit, DEQUANTISE):
        value = edit.index.constants.get(node.input[0])
        if value is not None and value.dtype == np.uint8:
            node.input[0] = edit.constant(f"{node.input[0]}.int8", _signed(value))
            _set_zero_point(edit, node, _signed(params.zero_point))
    return edit.model


def _signed_activations(model: ModelProto) -> ModelProto:
    """uint8 activations become int8 in the same way. Where the model's own border is uint8, a pair translates.

    Tensors that something else than DequantizeLinear reads keep their type.
    """
    edit = _Edit(model)
    for node, params in _of_type(edit, DEQUANTISE):
        if node.input[0] in edit.index.inputs and params.dtype == np.uint8:
            _bridge_input(edit, node, params)
    for node, params in _of_type(edit, QUANTISE):
        readers = edit.index.consumers[node.output[0]]
        if params.dtype != np.uint8 or any(r.op_type != DEQUANTISE for r in readers):
            continue
        if node.output[0] in edit.index.outputs:
            _bridge_output(edit, node, params)
        else:
            _sign_pair(edit, node, readers)
    return edit.model


def _sign_pair(edit: _Edit, node: NodeProto, readers: list[NodeProto]) -> None:
    """The quantise `node` and the dequantises that read it move their zero points down together."""
    params = [edit.index.params(item) for item in (node, *readers)]
    if all(p is not None and p.dtype == np.uint8 for p in params):
        for item, found in zip((node, *readers), params, strict=True):
            assert found is not None
            _set_zero_point(edit, item, _signed(found.zero_point))
        _forget_type(edit.model, node.output[0])


def _bridge_input(edit: _Edit, node: NodeProto, params: QuantParams) -> None:
    """uint8 input → dequantise, quantise to int8, dequantise."""
    given, scale = node.input[:2]
    real, stored = edit.fresh(f"{given}.real"), edit.fresh(f"{given}.int8")
    zero = edit.constant(f"{given}.int8_zero_point", _signed(params.zero_point))
    edit.node(DEQUANTISE, list(node.input), real, f"{node.name}.uint8", params.axis)
    edit.node(QUANTISE, [real, scale, zero], stored, f"{node.name}.int8", params.axis)
    node.input[:] = [stored, scale, zero]


def _bridge_output(edit: _Edit, node: NodeProto, params: QuantParams) -> None:
    """Quantise to int8, dequantise, and only then to the model's uint8 output."""
    real, stored = edit.fresh(f"{node.output[0]}.real"), edit.fresh(f"{node.output[0]}.int8")
    zero = edit.constant(f"{node.output[0]}.int8_zero_point", _signed(params.zero_point))
    edit.node(QUANTISE, [node.input[0], node.input[1], zero], stored, f"{node.name}.int8", params.axis)
    edit.node(DEQUANTISE, [stored, node.input[1], zero], real, f"{node.name}.real", params.axis)
    node.input[0] = real


def _stored_views(model: ModelProto, whole: frozenset[str]) -> ModelProto:
    """dequantise → view becomes view → dequantise, until no view follows a dequantise; also transpositions, and cuts
    of what is no feature map. Attention layers, whose operators are in `whole`, stay in one piece."""
    while (pushed := _push_views(model, whole)) is not None:
        model = pushed
    return model


def _push_views(model: ModelProto, whole: frozenset[str]) -> ModelProto | None:
    """`model` with its views of dequantised tensors moved before the dequantise; None when there is none."""
    edit = _Edit(model)
    pushed = False
    for node in edit.index.nodes:
        source = edit.index.producer.get(node.input[0]) if node.input else None
        if source is None or source.op_type != DEQUANTISE or node.name in whole:
            continue
        if not is_link(edit.index, node):
            continue
        params = edit.index.params(source)
        if params is None or not params.per_tensor or source.input[0] in edit.index.constants:
            continue
        if any(reader.op_type == _SPLIT for reader in edit.index.consumers[node.output[0]]):
            continue  # the reshape to groups is part of a normalisation
        viewed, result = edit.fresh(f"{node.output[0]}.q"), node.output[0]
        node.input[0], node.output[0] = source.input[0], viewed
        edit.node(DEQUANTISE, [viewed, *source.input[1:]], result, f"{node.name}.dequantise", params.axis)
        pushed = True
    return _typed(_cleaned(edit.model)) if pushed else None


def _sunk_views(model: ModelProto, whole: frozenset[str]) -> ModelProto:
    """operator → view → quantise becomes operator → quantise → view, until none is left; also for the model's input."""
    while (sunk := _sink_views(model, whole)) is not None:
        model = sunk
    return model


def _sink_views(model: ModelProto, whole: frozenset[str]) -> ModelProto | None:
    edit = _Edit(model)
    sunk = False
    for node, params in _of_type(edit, QUANTISE):
        view = edit.index.producer.get(node.input[0])
        if view is None or view.name in whole or not params.per_tensor or not _may_sink(edit.index, view):
            continue
        stored = edit.fresh(f"{view.input[0]}.q")
        view.output[0], node.input[0], view.input[0], node.output[0] = node.output[0], view.input[0], stored, stored
        sunk = True
    return _typed(_cleaned(edit.model)) if sunk else None


def _may_sink(index: GraphIndex, view: NodeProto) -> bool:
    """Whether nobody but one quantise needs what a view makes, or what it takes."""
    if not is_link(index, view) or view.input[0] in index.constants:
        return False
    maker = index.producer.get(view.input[0])
    if maker is not None and maker.op_type in (DEQUANTISE, _SPLIT):
        return False
    return index.is_leaf(view.input[0]) and index.is_leaf(view.output[0])


def _typed(model: ModelProto) -> ModelProto:
    """Types and shapes inferred anew, for a model whose views now act on other tensors."""
    del model.graph.value_info[:]
    return with_static_shapes(model)


def _without_round_trips(model: ModelProto) -> ModelProto:
    """A quantise with the parameters of the dequantise before it gives back the stored tensor."""
    edit = _Edit(model)
    for node, after in _of_type(edit, QUANTISE):
        source = edit.index.producer.get(node.input[0])
        before = edit.index.params(source) if source is not None and source.op_type == DEQUANTISE else None
        if source is not None and before is not None and _same(before, after):
            edit.redirect(node.output[0], source.input[0])
    return edit.model


def _same(before: QuantParams, after: QuantParams) -> bool:
    whole = before.per_tensor and after.per_tensor and before.dtype == after.dtype
    return whole and before.as_tensor() == after.as_tensor()


def _of_type(edit: _Edit, op_type: str) -> Iterator[tuple[NodeProto, QuantParams]]:
    """Nodes of `op_type` (quantise or dequantise) whose parameters are constant, with them."""
    for node in edit.index.nodes:
        params = edit.index.params(node) if node.op_type == op_type else None
        if params is not None:
            yield node, params


def _without_splits(model: ModelProto) -> ModelProto:
    """A split is one slice for each of its results."""
    edit = _Edit(model)
    splits = [node for node in edit.index.nodes if node.op_type == "Split"]
    for node in splits:
        shape = edit.index.shape(node.input[0])
        axis = attribute(node, "axis", 0) % len(shape)
        begin = 0
        for number, output in enumerate(name for name in node.output if name):
            end = begin + edit.index.shape(output)[axis]
            bounds = [
                edit.constant(f"{node.name}.{n}{number}", np.array([v]))
                for n, v in zip("abc", (begin, end, axis), strict=True)
            ]
            edit.model.graph.node.append(
                helper.make_node("Slice", [node.input[0], *bounds], [output], name=edit.fresh(f"{node.name}.{number}"))
            )
            begin = end
    kept = [node for node in edit.model.graph.node if node.op_type != "Split"]
    del edit.model.graph.node[:]
    edit.model.graph.node.extend(kept)
    return edit.model


_REWRITES: tuple[Callable[[ModelProto], ModelProto], ...] = (
    _without_identities,
    _without_splits,
    _folded_weights,
    _signed_weights,
    _signed_activations,
)


def _signed(value: NDArray) -> NDArray[np.int8]:
    return (value.astype(np.int16) - 128).astype(np.int8)


def _set_zero_point(edit: _Edit, node: NodeProto, zero: NDArray) -> None:
    name = edit.constant(f"{node.name}.zero_point", zero)
    node.input[:] = [*node.input[:2], name]


def _forget_type(model: ModelProto, tensor: str) -> None:
    """Drops what inference said about the tensor's type; it is inferred again at the end."""
    kept = [v for v in model.graph.value_info if v.name != tensor]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
