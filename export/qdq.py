"""The operator graph as a quantise/dequantise ONNX model: the way back from `importer`, for a second opinion.

ONNX Runtime executes such a model in float32: it dequantises, computes, rounds half to even. The engine computes
in integers and rounds half up, once per operator. So one operator of both agrees within one step of its output's
scale, and chains drift apart by more; `tests/export/test_qdq.py` holds single operators to that tolerance. Shares of a
softmax have 15 fraction bits: `tolerance` says how many steps that is where the output scale is finer.
Arrays are int8 in the host's layout: (batch, channels, height, width), or (batch, features).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ..common.errors import UnsupportedError
from ..kernels.function_ops import Mul, Norm, Reduce, Softmax
from ..kernels.ops import Add, Conv2d, MatMul, Pool2d, Requantise
from ..kernels.reference import Map
from . import qdq_functions
from .functions import fixed_map
from .graph import Graph, Node, Quantisation, constants_of
from .onnx_model import OPSET, check_model
from .qdq_writer import FULL, QdqWriter, host_shape, is_vector
from .reference import to_host, to_map
from .split_run import session

_ROUNDING_STEPS = 1  # ties, and float32 itself


def _conv2d(w: QdqWriter, graph: Graph, node: Node, inputs: Sequence[str]) -> str:
    op, constants = node.op, constants_of(graph, node)
    assert isinstance(op, Conv2d)
    units = graph.tensors[node.inputs[0]].quantisation.scale * constants.scales
    bias = w.weights(f"{node.name}.bias", constants.bias, units)
    values = constants.weights.transpose(0, 3, 1, 2)
    if not op.depthwise and is_vector(graph, node.inputs[0]) and op.window.taps == 1:
        matrix = w.weights(f"{node.name}.weights", values.reshape(len(values), -1), constants.scales)
        return w.op("Gemm", node.name, [inputs[0], matrix, bias], transB=1)
    weights = w.weights(f"{node.name}.weights", values, constants.scales)
    source = _as_map(w, graph, node, inputs[0])
    group = op.input[2] if op.depthwise else 1
    result = w.op("Conv", node.name, [source, weights, bias], group=group, **_windows(op))
    return _flat(w, graph, node, result)


def _pool2d(w: QdqWriter, graph: Graph, node: Node, inputs: Sequence[str]) -> str:
    op = node.op
    assert isinstance(op, Pool2d)
    source = _as_map(w, graph, node, inputs[0])
    return _flat(w, graph, node, w.op("MaxPool" if op.maximum else "AveragePool", node.name, [source], **_windows(op)))


def _add(w: QdqWriter, graph: Graph, node: Node, inputs: Sequence[str]) -> str:
    return w.op("Add", node.name, inputs)


def _requantise(w: QdqWriter, graph: Graph, node: Node, inputs: Sequence[str]) -> str:
    return w.op("Identity", node.name, inputs)


def _matmul(w: QdqWriter, graph: Graph, node: Node, inputs: Sequence[str]) -> str:
    """A matrix in each row: (n, rows, columns, channels) between transpositions from and to the host's order."""
    op = node.op
    assert isinstance(op, MatMul)
    orders = ((0, 2, 3, 1), (0, 2, 1, 3) if op.transposed else (0, 2, 3, 1))
    names = [_as_map(w, graph, node, name, which) for which, name in enumerate(inputs)]
    turned = [
        w.op("Transpose", f"{node.name}.{side}", [name], perm=order)
        for side, name, order in zip("ab", names, orders, strict=True)
    ]
    result = w.op("Transpose", f"{node.name}.back", [w.op("MatMul", node.name, turned)], perm=(0, 3, 1, 2))
    return _flat(w, graph, node, result)


Translate = Callable[[QdqWriter, Graph, Node, Sequence[str]], str]
_OPERATORS: dict[type, Translate] = {
    Conv2d: _conv2d,
    Pool2d: _pool2d,
    MatMul: _matmul,
    Add: _add,
    Requantise: _requantise,
    Mul: qdq_functions.mul,
    Softmax: qdq_functions.softmax,
    Norm: qdq_functions.norm,
    Reduce: qdq_functions.reduce,
}


def has_qdq_form(graph: Graph) -> bool:
    known = all(type(node.op) in _OPERATORS for node in graph.nodes)
    return known and all(tensor.dtype == "int8" for tensor in graph.tensors.values())


def to_qdq(graph: Graph) -> ModelProto:
    """`graph` as an ONNX model with int8 inputs and outputs in the host's layout and any batch.

    Raises `UnsupportedError` for operators that ONNX cannot say in one operator, and for shape-only graphs.
    """
    w = QdqWriter()
    real = {name: w.dequantise(name, graph.tensors[name].quantisation) for name in graph.inputs}
    graph.check_int8("a QDQ model")
    for name in graph.fixed:
        stored = w.constant(name, to_host(fixed_map(graph, name)[None], graph.tensors[name]), np.int8)
        real[name] = w.dequantise(stored, graph.tensors[name].quantisation)
    for node in graph.nodes:
        translate = _OPERATORS.get(type(node.op))
        if translate is None:
            raise UnsupportedError(f"{type(node.op).__name__} has no QDQ form", where=f"node {node.name!r}")
        result = translate(w, graph, node, [real[name] for name in node.inputs])
        output = graph.tensors[node.output].quantisation
        w.quantise(result, node.output, output, node.clamp)
        real[node.output] = w.dequantise(node.output, output)
    return _model(graph, w)


def run_qdq(graph: Graph, inputs: Mapping[str, Map]) -> dict[str, Map]:
    """What ONNX Runtime makes of `to_qdq`, with its graph optimisations off, for maps (batch, H, W, channels)."""
    given = {name: to_host(inputs[name], graph.tensors[name]) for name in graph.inputs}
    found = session(to_qdq(graph), exact=True).run(list(graph.outputs), given)
    return {
        name: to_map(np.asarray(value), graph.tensors[name]) for name, value in zip(graph.outputs, found, strict=True)
    }


def tolerance(graph: Graph) -> int:
    """By how many steps of the output scale the only operator of `graph` may differ from ONNX Runtime."""
    (node,) = graph.nodes
    return _ROUNDING_STEPS + (qdq_functions.softmax_steps(graph, node) if isinstance(node.op, Softmax) else 0)


def largest_step(a: Mapping[str, Map], b: Mapping[str, Map]) -> int:
    """The largest difference of two runs' outputs, in steps of the output scale."""
    return max(int(np.abs(a[name].astype(np.int64) - b[name]).max(initial=0)) for name in a)


def _model(graph: Graph, w: QdqWriter) -> ModelProto:
    ports = [[_port(graph, name) for name in names] for names in (graph.inputs, graph.outputs)]
    constants = [numpy_helper.from_array(value, name) for name, value in w.constants.items()]
    body = helper.make_graph(w.nodes, "main", ports[0], ports[1], constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    check_model(model, where="written from the operator graph")
    return model


def _port(graph: Graph, name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT8, ["n", *host_shape(graph, name)])


def _as_map(w: QdqWriter, graph: Graph, node: Node, source: str, which: int = 0) -> str:
    """A vector as (n, channels, 1, 1), for operators with windows and products of matrices."""
    tensor = graph.tensors[node.inputs[which]]
    if not is_vector(graph, tensor.name):
        return source
    return _view(w, source, f"{node.name}.map{which or ''}", (0, tensor.shape[2], 1, 1), tensor.quantisation)


def _flat(w: QdqWriter, graph: Graph, node: Node, result: str) -> str:
    """(n, channels, 1, 1) as the vector that the host sees, where it sees one."""
    tensor = graph.tensors[node.output]
    if not is_vector(graph, tensor.name):
        return result
    w.quantise(result, f"{node.name}.stored", tensor.quantisation, node.clamp)
    real = w.dequantise(f"{node.name}.stored", tensor.quantisation)
    return w.reshape(real, f"{node.name}.vector", (0, tensor.shape[2]))


def _view(w: QdqWriter, source: str, name: str, shape: tuple[int, ...], quantisation: Quantisation) -> str:
    """A reshape between equal quantisations, which changes no bit and which importers take for a view."""
    w.quantise(w.reshape(source, name, shape), f"{name}.stored", quantisation, FULL)
    return w.dequantise(f"{name}.stored", quantisation)


def _windows(op: Conv2d | Pool2d) -> dict[str, Sequence[int]]:
    """Attributes of a window; the trailing padding is what the last position needs.

    ONNX derives the output size: a single position that leaves input unread takes a stride beyond the map.
    """
    w = op.window
    axes = ((w.kernel_h, w.stride_h, w.pad_h), (w.kernel_w, w.stride_w, w.pad_w))
    sizes = list(zip(op.input[:2], op.output[:2], strict=True))
    need = [(o - 1) * step + k - pad - i for (k, step, pad), (i, o) in zip(axes, sizes, strict=True)]
    strides = [step if o > 1 else i + k for (k, step, _), (i, o) in zip(axes, sizes, strict=True)]
    pads = (w.pad_h, w.pad_w, *(max(0, n) for n in need))
    return {"kernel_shape": (w.kernel_h, w.kernel_w), "strides": strides, "pads": pads}
