"""One site → nodes of the operator graph. Limits of the kernels raise `UnsupportedError`, which placement reports."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from ..kernels.element_types import full_range
from ..kernels.function_ops import Table
from ..kernels.movement_ops import Movement, TransposedConv2d
from ..kernels.ops import Add, Conv2d, Op, Pool2d, Requantise, Shape, Window
from ..kernels.reference import INT48_MAX
from ..kernels.rescale import add_operands, conv_operands, rescale_operands
from .graph import Constants, ConvConstants, FunctionConstants, Node, Quantisation, TableConstants, Tensor
from .onnx_model import QUANTISE, attribute
from .overflow import largest
from .sites import LINEAR, STORED, Site, map_shape, reduced_axes, stored_as
from .translate_functions import function
from .translate_movement import MOVEMENTS, movement, transposed

INT32_MAX = 2**31 - 1
_REDUCTIONS = frozenset({"ReduceMean", "ReduceMax", "ReduceSum"})
_INNER = (".negated", ".max")  # maps between the nodes of one site, which nothing clamps
_FUNCTIONS = _REDUCTIONS | {"Mul", "Softmax", "Resize"}


@dataclass(frozen=True, slots=True)
class Piece:
    """What one site adds to a graph."""

    nodes: tuple[Node, ...]
    tensors: tuple[Tensor, ...]
    constants: dict[str, Constants] = field(default_factory=dict)


def translate(site: Site) -> Piece:
    """The graph nodes of a site that the placement rules have let pass."""
    return in_stored_types(_translated(site))


def _translated(site: Site) -> Piece:
    """The nodes with the element types of int8."""
    op_type = site.node.op_type
    if op_type in LINEAR or op_type in ("Conv", "ConvTranspose"):
        return _convolution(site)
    inputs, output = [_stored(site, name) for name in site.stored_inputs], _result(site)
    if op_type in MOVEMENTS:
        return Piece((_node(site, movement(site, inputs, output), inputs, output),), (*inputs, output))
    scales = [t.quantisation.scale for t in inputs]
    over_map = op_type in _REDUCTIONS and reduced_axes(site) != (1,)
    if over_map and op_type == "ReduceMax":
        return _max_pool(site, inputs[0], output, Window(*inputs[0].shape[:2]))
    if site.pattern is not None or (op_type in _FUNCTIONS and not over_map):
        return _function(site, inputs, output)
    if op_type == "Sub":
        return _difference(site, inputs, output)
    if op_type == "Add":
        add_operands(scales[0], scales[1], output.quantisation.scale)
        return Piece((_node(site, Add(output.shape), inputs, output),), (*inputs, output))
    if op_type == "MaxPool":
        return _max_pool(site, inputs[0], output, _window(site, inputs[0].shape, output.shape))
    if op_type in ("Relu", "Clip", QUANTISE):
        rescale_operands(scales[0] / output.quantisation.scale)
        return Piece((_node(site, Requantise(output.shape), inputs, output),), (*inputs, output))
    op = Pool2d(inputs[0].shape, output.shape, _average_window(site, inputs[0].shape, output.shape), maximum=False)
    rescale_operands(scales[0] / output.quantisation.scale / op.window.taps)
    return Piece((_node(site, op, inputs, output),), (*inputs, output))


def in_stored_types(piece: Piece) -> Piece:
    """The nodes with the element types of their maps; only a change of scale may also change the type."""
    tensors = {tensor.name: tensor for tensor in piece.tensors}
    nodes: list[Node] = []
    for node in piece.nodes:
        given, made = {tensors[name].dtype for name in node.inputs}, tensors[node.output].dtype
        if given | {made} == {"int8"}:
            nodes.append(node)
            continue
        if isinstance(node.op, Requantise):
            op = replace(node.op, dtype=made, source_dtype=given.pop())
        elif given == {made}:
            op = replace(node.op, dtype=made)  # pyright: ignore[reportCallIssue]  # attention has no such site
        else:
            raise UnsupportedError(f"{' and '.join(sorted(given))} maps make one of {made}")
        clamp = full_range(made) if node.output.endswith(_INNER) else node.clamp
        nodes.append(replace(node, op=op, clamp=clamp))
    return replace(piece, nodes=tuple(nodes))


def _difference(site: Site, inputs: list[Tensor], output: Tensor) -> Piece:
    """a − b as a + (−b): a table turns the stored b into −1 − b, whose zero point is −1 less that of b."""
    a, b = inputs
    turned = Quantisation(b.quantisation.scale, -1 - b.quantisation.zero_point if b.dtype == "int8" else 0)
    between = replace(b, name=f"{output.name}.negated", quantisation=turned)
    names = tuple(n.name for n in site.members)
    negate = Node(f"{site.node.name}.negate", Table(b.shape), (b.name,), between.name, source=names)
    add_operands(a.quantisation.scale, turned.scale, output.quantisation.scale)
    total = _node(site, Add(output.shape), [a, between], output)
    table: Constants = TableConstants(np.arange(127, -129, -1).astype(np.int8), np.negative)
    if b.dtype == "int16":
        table = FunctionConstants(np.negative, largest(b))
    return Piece((negate, total), (a, b, between, output), {negate.name: table})


def _function(site: Site, inputs: list[Tensor], output: Tensor) -> Piece:
    op, constants, operands = function(site, inputs, output)
    node = _node(site, op, operands, output)
    held = {} if constants is None else {node.name: constants}
    return Piece((node,), (*operands, output), held)


def _convolution(site: Site) -> Piece:
    source, output = _stored(site, site.stored_inputs[0]), _result(site)
    values = _dense_order(site, source.shape)
    scales = _weight_scales(site, len(values))
    op = _convolving(site, source.shape, output.shape)
    units = source.quantisation.scale * scales
    constants = ConvConstants(values, _bias(site, units), scales)
    _check_numbers(constants, source, output)
    if source.dtype == "int16":
        constants = replace(constants, bias=constants.bias.astype(np.int64))
    node = _node(site, op, [source], output)
    return Piece((node,), (source, output), {node.name: constants})


def _convolving(site: Site, source: Shape, output: Shape) -> Conv2d | TransposedConv2d:
    if site.node.op_type == "ConvTranspose":
        return transposed(site, source, output)
    if site.node.op_type in LINEAR:
        return Conv2d(source, output, Window(source[0], source[1]))
    return Conv2d(source, output, _window(site, source, output), attribute(site.node, "group", 1) > 1)


def _dense_order(site: Site, source: Shape) -> NDArray[np.int8]:
    """Weights as [output channel][row][column][input channel]."""
    assert site.weights is not None
    values = site.weights.values
    if site.node.op_type == "Conv":
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1))
    if site.node.op_type == "ConvTranspose":  # input channels stand first; of each group for itself
        depthwise = attribute(site.node, "group", 1) > 1
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1) if depthwise else values.transpose(1, 2, 3, 0))
    if not attribute(site.node, "transB", 0):
        values = values.T
    height, width, channels = source
    return np.ascontiguousarray(values.reshape(-1, channels, height, width).transpose(0, 2, 3, 1))


def _weight_scales(site: Site, count: int) -> NDArray[np.float64]:
    assert site.weights is not None
    return np.broadcast_to(site.weights.params.scale.reshape(-1).astype(np.float64), (count,)).copy()


def _bias(site: Site, units: NDArray[np.float64]) -> NDArray[np.int32]:
    """Bias in units of input scale × weight scale; stored biases of just that scale are taken bit for bit."""
    name = site.node.input[2] if len(site.node.input) > 2 else ""
    if not name:
        return np.zeros(len(units), np.int32)
    source = site.index.producer.get(name)
    if source is None:
        real = site.index.constants[name].astype(np.float64)
    else:
        params = site.index.params(source)
        assert params is not None
        stored = site.index.constants[source.input[0]].astype(np.int64) - params.zero_point
        if np.allclose(np.broadcast_to(params.scale.reshape(-1), units.shape), units, rtol=1e-5, atol=0):
            return _int32(np.broadcast_to(stored.reshape(-1), units.shape))
        real = stored * params.scale.astype(np.float64)
    return _int32(np.rint(np.broadcast_to(real.reshape(-1), units.shape) / units))


def _int32(value: NDArray) -> NDArray[np.int32]:
    if np.abs(value).max(initial=0) > INT32_MAX:
        raise UnsupportedError(f"bias {np.abs(value).max():.0f} leaves int32")
    return value.astype(np.int32)


def _check_numbers(constants: ConvConstants, source: Tensor, output: Tensor) -> None:
    """Every sum must fit int32, or 48 bits for int16, for every input, and every scale a RESCALE."""
    reach = round(largest(source) / source.quantisation.scale)
    worst = reach * np.abs(constants.weights.astype(np.int64)).sum(axis=(1, 2, 3)) + np.abs(
        constants.bias.astype(np.int64)
    )
    most, name = (INT32_MAX, "int32") if source.dtype == "int8" else (INT48_MAX, "48 bits")
    if worst.max() > most:
        raise UnsupportedError(f"the accumulator may reach {worst.max()}, beyond {name}")
    for scale in np.unique(constants.scales):
        conv_operands(source.quantisation.scale * float(scale) / output.quantisation.scale, source.dtype)


def _max_pool(site: Site, source: Tensor, output: Tensor, window: Window) -> Piece:
    """A maximum keeps its scale; a different output scale takes a requantisation behind it."""
    op = Pool2d(source.shape, output.shape, window, maximum=True)
    if source.quantisation == output.quantisation:
        return Piece((_node(site, op, [source], output),), (source, output))
    rescale_operands(source.quantisation.scale / output.quantisation.scale)
    between = replace(output, name=f"{output.name}.max", quantisation=source.quantisation)
    names = tuple(n.name for n in site.members)
    pool = Node(site.node.name, op, (source.name,), between.name, source=names)
    scaled = Node(
        f"{site.node.name}.requantise", Requantise(output.shape), (between.name,), output.name, site.clamp, names
    )
    return Piece((pool, scaled), (source, between, output))


def _average_window(site: Site, source: Shape, output: Shape) -> Window:
    if site.node.op_type != "AveragePool":
        return Window(source[0], source[1])
    window = _window(site, source, output)
    pads = list(attribute(site.node, "pads", [0, 0, 0, 0]))
    reach_h = (output[0] - 1) * window.stride_h + window.kernel_h
    reach_w = (output[1] - 1) * window.stride_w + window.kernel_w
    if window.pad_h or window.pad_w or any(pads) or reach_h > source[0] or reach_w > source[1]:
        kernel = f"{window.kernel_h}x{window.kernel_w}"
        raise UnsupportedError(f"average pool over padding (pads {pads}, kernel {kernel} on {source[0]}x{source[1]})")
    return window


def _window(site: Site, source: Shape, output: Shape) -> Window:
    node = site.node
    default = site.weights.values.shape[2:] if site.weights is not None else None
    kernel = attribute(node, "kernel_shape", default)
    strides = attribute(node, "strides", [1, 1])
    pads = list(attribute(node, "pads", [0, 0, 0, 0]))[:2]
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        for axis in range(2):
            total = max(0, (output[axis] - 1) * strides[axis] + kernel[axis] - source[axis])
            pads[axis] = total // 2 if mode == "SAME_UPPER" else total - total // 2
    elif mode == "VALID":
        pads = [0, 0]
    return Window(kernel[0], kernel[1], strides[0], strides[1], pads[0], pads[1])


def _node(site: Site, op: Op | Movement, inputs: list[Tensor], output: Tensor) -> Node:
    names = tuple(n.name for n in site.members)
    return Node(site.node.name, op, tuple(t.name for t in inputs), output.name, site.clamp, names)


def _stored(site: Site, name: str) -> Tensor:
    found = stored_as(site.index, name)
    assert found is not None
    return _tensor(site, name, *found)


def _result(site: Site) -> Tensor:
    assert site.output_params is not None
    return _tensor(site, site.output, site.output_params.as_tensor(), STORED[site.output_params.dtype])


def _tensor(site: Site, name: str, quantisation: Quantisation, dtype: str) -> Tensor:
    shape = site.index.shape(name)
    extents = map_shape(shape)
    assert extents is not None
    return Tensor(name, extents, quantisation, shape[1:], dtype=dtype)
