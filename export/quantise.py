"""Float ONNX → int8 QDQ ONNX by ONNX Runtime's static quantiser: per channel weights, asymmetric activations.

Only operators that the engine can take are quantised; the others keep their float precision on the CPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper

from ..common.errors import ModelError
from .attention import with_ranges
from .batch_norm import norms_as_convolutions
from .cuboid_pattern import CuboidMatch, find_cuboid_attention, seen_inside
from .onnx_export import quiet
from .onnx_model import (
    DEQUANTISE,
    QUANTISE,
    GraphIndex,
    check_model,
    copy_of,
    live_nodes,
    unique_names,
    with_static_shapes,
)
from .patterns import patterns
from .shared_scales import with_scaled_factors, with_shared_scales

QUANTISED_OPERATORS = (
    "Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool",
    "ReduceMean", "ReduceMax", "ReduceSum", "Softmax", "Resize", "Flatten", "Reshape", "Squeeze", "Unsqueeze",
    "ConvTranspose", "Concat", "Slice", "Split", "Gather", "Pad", "Transpose", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
_PATTERN = "pattern"
_MARK = "Identity"  # stands before and behind a pattern, for its tensors to be quantised there
Calibration = Iterable[NDArray[np.float32]]


def is_quantised(model: ModelProto) -> bool:
    """Whether the model carries quantise/dequantise pairs, so that it is taken as it is."""
    return any(node.op_type in (QUANTISE, DEQUANTISE) for node in model.graph.node)


def quantise(model: ModelProto, calibration: Calibration, *, per_channel: bool = True) -> ModelProto:
    """The QDQ form of a float model; ranges are the extremes seen over `calibration`.

    One scale for each output channel of a weight; without `per_channel` one for all of them, which takes half the time
    and is enough where only latency is asked for.

    `calibration` yields float32 arrays of one sample or a batch, shaped as the only input but for its batch axis.
    Raises `ModelError` when ONNX Runtime cannot run the model, or finds nothing in it that it could quantise.
    """
    if is_quantised(model):
        raise ModelError("the model is quantised already", hint="export it as it is, without calibration data")
    inputs = GraphIndex(model)
    if len(inputs.inputs) != 1:
        raise ModelError(f"the model has inputs {inputs.inputs}; calibration covers one", hint="quantise it beforehand")
    name = inputs.inputs[0]
    samples = calibration_samples(calibration, inputs.shape(name))
    model = norms_as_convolutions(_named(model))
    matches = attention_layers(with_static_shapes(model))
    marked, inside = _marked(model, matches)
    result = _without_marks(_run_quantiser(marked, [{name: sample} for sample in samples], inside, per_channel))
    if not is_quantised(result):
        hint = f"the engine's operators are {', '.join(QUANTISED_OPERATORS)}"
        raise ModelError("no operator of this model can be quantised for the engine", where=model.graph.name, hint=hint)
    scaled = with_shared_scales(with_scaled_factors(with_static_shapes(_tidy(result))))
    return with_ranges(scaled, model, matches, [{name: sample} for sample in samples])


def calibration_samples(calibration: Calibration, shape: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """Single samples of `shape` (batch 1) out of arrays and batches; refuses empty, misshapen or non-finite data."""
    samples: list[NDArray[np.float32]] = []
    for array in calibration:
        batch = array.reshape(1, *array.shape) if array.shape == shape[1:] else array
        if batch.shape[1:] != shape[1:] or batch.dtype != np.float32:
            got = f"{array.dtype} {array.shape}"
            raise ModelError(f"calibration data must be float32 (n, {', '.join(map(str, shape[1:]))}), got {got}")
        if not np.isfinite(batch).all():
            raise ModelError("calibration data holds NaN or infinity", hint="check the preprocessing")
        samples.extend(batch[i : i + 1] for i in range(len(batch)))
    if not samples:
        raise ModelError("calibration data is empty", hint="give some tens of representative samples")
    return samples


def random_calibration(shape: tuple[int, ...], count: int = 1, seed: int = 0) -> list[NDArray[np.float32]]:
    """Normal noise in place of data: enough to profile a network, useless for its accuracy."""
    return [np.random.default_rng(seed).standard_normal((count, *shape[1:]), np.float32)]


def attention_layers(model: ModelProto, *, seen: bool = False) -> list[CuboidMatch]:
    """Cuboid-attention layers, those that something else looks into only with `seen`."""
    if not any(node.op_type == "Softmax" for node in model.graph.node):
        return []
    index = GraphIndex(model)
    return [match for match in find_cuboid_attention(model)[0] if seen or seen_inside(index, match) is None]


def _named(model: ModelProto) -> ModelProto:
    """A copy in which every operator has a name of its own."""
    model = copy_of(model)
    wanted = (node.name or f"{node.op_type}_{i}" for i, node in enumerate(model.graph.node))
    for node, name in zip(model.graph.node, unique_names(wanted), strict=True):
        node.name = name
    return model


def _marked(model: ModelProto, matches: Sequence[CuboidMatch]) -> tuple[ModelProto, list[str]]:
    """The model with marks around its patterns and the attention layers `matches`, and the names of the operators
    inside, which stay as they are."""
    model = copy_of(model)
    index = GraphIndex(with_static_shapes(model))
    inside = [name for match in matches for name in match.nodes]
    for number, match in enumerate(matches):
        _mark(model, f"{_PATTERN}.attention{number}", set(match.nodes), match.inputs, match.outputs)
    taken = set(inside)
    for number, pattern in enumerate(patterns(index)):
        own = {node.name for node in pattern.nodes}
        if own & taken:
            continue
        inside += sorted(own)
        _mark(model, f"{_PATTERN}{number}", own, (pattern.source,), (pattern.output,))
    ordered = topological(list(model.graph.node), [v.name for v in model.graph.output])
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return model, inside


def _mark(model: ModelProto, label: str, own: set[str], sources: Sequence[str], outputs: Sequence[str]) -> None:
    """Puts marks on the tensors that the operators `own` read, and on those that they give."""
    entries = {name: f"{name}.{label}" for name in sources}
    leaving = {name: f"{name}.{_PATTERN}" for name in outputs}
    for node in model.graph.node:
        if node.name in own:
            node.input[:] = [entries.get(name, name) for name in node.input]
            node.output[:] = [leaving.get(name, name) for name in node.output]
    pairs = [("before", name, entry) for name, entry in entries.items()]
    pairs += [("behind", left, name) for name, left in leaving.items()]
    for number, (side, source, target) in enumerate(pairs):
        model.graph.node.append(helper.make_node(_MARK, [source], [target], name=f"{label}.{side}{number}"))


def _without_marks(model: ModelProto) -> ModelProto:
    """Takes the marks out. On either side of one is a pair of quantise and dequantise; the first of them stays."""
    index = GraphIndex(model)
    moved: dict[str, str] = {}
    for node in index.nodes:
        if node.op_type != _MARK or not node.name.startswith(_PATTERN):
            continue
        (name,) = node.output
        for quantise in (n for n in index.consumers[name] if n.op_type == QUANTISE):
            moved |= {n.output[0]: node.input[0] for n in index.consumers[quantise.output[0]]}
    for node in model.graph.node:
        node.input[:] = [_end(moved, name) for name in node.input]
    return model


def _end(moved: dict[str, str], name: str) -> str:
    while name in moved:
        name = moved[name]
    return name


def _run_quantiser(
    model: ModelProto, feeds: list[dict[str, NDArray[np.float32]]], left_out: list[str], per_channel: bool
) -> ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(feeds)

        def get_next(self) -> dict:  # an empty one ends the calibration
            return next(self.rest, {})

    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                copy_of(model), path, Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                op_types_to_quantize=[*QUANTISED_OPERATORS, _MARK], nodes_to_exclude=left_out,
                weight_type=QuantType.QInt8, activation_type=QuantType.QInt8,
                extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
            )  # fmt: skip
            return onnx.load_model(path)
        except Exception as error:  # onnxruntime's exceptions share no public base
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            hint = "replace an operator that ONNX Runtime lacks, or quantise the model beforehand"
            raise ModelError(f"quantisation failed: {reason}", where=model.graph.name, hint=hint) from error


def _tidy(model: ModelProto) -> ModelProto:
    """Short names, nodes in depth-first order from the outputs, initialisers sorted: the same bytes every time."""
    graph = model.graph
    for node in graph.node:
        node.name = _short(node.name)
        node.input[:] = [_short(n) for n in node.input]
        node.output[:] = [_short(n) for n in node.output]
    for tensor in graph.initializer:
        tensor.name = _short(tensor.name)
    ordered = topological(list(graph.node), [v.name for v in graph.output])
    initialisers = sorted(graph.initializer, key=lambda t: t.name)
    del graph.node[:], graph.initializer[:], graph.value_info[:], model.metadata_props[:]
    graph.node.extend(live_nodes(ordered, [v.name for v in graph.output]))
    used = {n for node in graph.node for n in node.input}
    graph.initializer.extend(t for t in initialisers if t.name in used)
    model.producer_name, model.producer_version = "lanefit", ""
    check_model(model, where="after quantisation")
    return model


def topological(nodes: list[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that `outputs` need, producers first, in an order that depends on the graph alone."""
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    order: list[int] = []
    done: set[int] = set()
    stack = [producer[name] for name in reversed(list(outputs)) if name in producer]
    while stack:
        number = stack[-1]
        waiting = [producer[n] for n in nodes[number].input if n in producer and producer[n] not in done]
        if number not in done and waiting:
            stack.extend(reversed(waiting))
            continue
        stack.pop()
        if number not in done:
            done.add(number)
            order.append(number)
    return [nodes[i] for i in order]


_SUFFIXES = {
    "_QuantizeLinear_Output": ".q",
    "_DequantizeLinear_Output": ".dq",
    "_QuantizeLinear_Input": ".float",
    "_QuantizeLinear": ".quantise",
    "_DequantizeLinear": ".dequantise",
}


def _short(name: str) -> str:
    for long, short in _SUFFIXES.items():
        if name.endswith(long):
            return name.removesuffix(long) + short
    return name
