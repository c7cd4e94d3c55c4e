"""One site → nodes of the operator graph. Limits of the kernels raise `UnsupportedError`, which placement reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from ..kernels.element_types import full_range
from ..kernels.function_ops import Table
from ..kernels.movement_ops import TransposedConv2d
from ..kernels.ops import Add, Conv2d, MatMul, Pool2d, Requantise, Shape, Window
from ..kernels.reference import INT48_MAX
from ..kernels.rescale import add_operands, conv_operands, rescale_operands
from .graph import Constants, ConvConstants, FunctionConstants, Node, Quantisation, TableConstants, Tensor
from .onnx_model import QUANTISE, attribute
from .operands import VIEWS, links
from .overflow import largest
from .site_layouts import operand_layouts, reduced_map_axes
from .site_maps import Maps, Piece
from .sites import LINEAR, Site, stored_as
from .translate_functions import function
from .translate_movement import MOVEMENTS, movement, transposed

INT32_MAX = 2**31 - 1
_INNER = (".negated", ".max")  # maps between the nodes of one site, which nothing clamps
_REDUCTIONS = frozenset({"ReduceMean", "ReduceMax", "ReduceSum"})
_FUNCTIONS = _REDUCTIONS | {"Mul", "Softmax", "Resize"}


def translate(site: Site) -> Piece:
    """The graph nodes of a site that the placement rules have let pass."""
    return in_stored_types(_translated(site))


def _translated(site: Site) -> Piece:
    """The nodes with the element types of int8."""
    op_type = site.node.op_type
    maps = Maps(site)
    if site.is_product:
        return _product(site, maps)
    if op_type in LINEAR or op_type in ("Conv", "ConvTranspose"):
        return _convolution(site, maps)
    output = maps.result()
    inputs = [maps.read(position, wanted) for position, wanted in enumerate(operand_layouts(site))]
    if op_type in MOVEMENTS:
        return maps.finish(movement(site, inputs, output), inputs)
    scales = [t.quantisation.scale for t in inputs]
    over_map = op_type in _REDUCTIONS and reduced_map_axes(site) != (2,)
    if over_map and op_type == "ReduceMax":
        return _max_pool(maps, inputs[0], output, Window(*inputs[0].shape[:2]))
    if site.pattern is not None or (op_type in _FUNCTIONS and not over_map):
        op, constants, operands = function(site, inputs, output)
        return maps.finish(op, operands, constants)
    if op_type == "Sub":
        return _difference(maps, inputs, output)
    if op_type == "Add":
        add_operands(scales[0], scales[1], output.quantisation.scale)
        return maps.finish(Add(output.shape), inputs)
    if op_type == "MaxPool":
        return _max_pool(maps, inputs[0], output, _window(site, inputs[0].shape, output.shape))
    if op_type in ("Relu", "Clip", QUANTISE):
        rescale_operands(scales[0] / output.quantisation.scale)
        return maps.finish(Requantise(output.shape), inputs)
    source = inputs[0].shape
    pooled = (1, 1, source[2]) if over_map or op_type == "GlobalAveragePool" else output.shape
    op = Pool2d(source, pooled, _average_window(site, source, pooled), maximum=False)
    rescale_operands(scales[0] / output.quantisation.scale / op.window.taps)
    return maps.finish(op, inputs)


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


def _difference(maps: Maps, inputs: list[Tensor], output: Tensor) -> Piece:
    """a − b as a + (−b): a table turns the stored b into −1 − b, whose zero point is −1 less that of b."""
    a, b = inputs
    turned = Quantisation(b.quantisation.scale, -1 - b.quantisation.zero_point if b.dtype == "int8" else 0)
    between = maps.between("negated", b, turned)
    add_operands(a.quantisation.scale, turned.scale, output.quantisation.scale)
    name = maps.inner("negate", Table(b.shape), [b], between)
    table: Constants = TableConstants(np.arange(127, -129, -1).astype(np.int8), np.negative)
    maps.constants[name] = table if b.dtype == "int8" else FunctionConstants(np.negative, largest(b))
    return maps.finish(Add(output.shape), [a, between])


def _product(site: Site, maps: Maps) -> Piece:
    """Matrices of two activations, group by group."""
    a, b = (maps.read(position, wanted) for position, wanted in enumerate(operand_layouts(site)))
    conv_operands(a.quantisation.scale * b.quantisation.scale / maps.result().quantisation.scale, "int8")
    return maps.finish(MatMul(a.shape, b.shape), [a, b])


def _convolution(site: Site, maps: Maps) -> Piece:
    output = maps.result()
    source = _features(site, maps) if site.node.op_type in LINEAR else maps.read(0, operand_layouts(site)[0])
    values = _dense_order(site, source.shape)
    scales = _weight_scales(site, len(values))
    op = _convolving(site, source.shape, output.shape)
    units = source.quantisation.scale * scales
    constants = ConvConstants(values, _bias(site, units), scales)
    _check_numbers(constants, source, output)
    if source.dtype == "int16":
        constants = replace(constants, bias=constants.bias.astype(np.int64))
    return maps.finish(op, [source], constants)


def _features(site: Site, maps: Maps) -> Tensor:
    """What a linear layer reads: the whole map where it takes one flattened, which saves the copy."""
    stored = site.inputs[0]
    assert stored is not None
    chain, shape = links(site.index, stored), site.index.shape(stored)
    held = site.layouts.of(chain.base)
    given, read = (stored_as(site.index, name) for name in (chain.base, stored))
    views = all(node.op_type in VIEWS for node in chain.nodes)
    if len(shape) == 2 and views and held is not None and not held.channels_last and given == read and given:
        source = maps.tensor(chain.base, held, *given)
        maps.tensors.append(source)
        return source
    return maps.read(0, operand_layouts(site)[0])


def _convolving(site: Site, source: Shape, output: Shape) -> Conv2d | TransposedConv2d:
    if site.node.op_type == "ConvTranspose":
        return transposed(site, source, output)
    if site.node.op_type in LINEAR:
        window = Window(1, 1) if source[:2] == output[:2] else Window(source[0], source[1])
        return Conv2d(source, output, window)
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
    if values.shape[1] == channels:
        return np.ascontiguousarray(values[:, None, None, :])
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


def _max_pool(maps: Maps, source: Tensor, output: Tensor, window: Window) -> Piece:
    """A maximum keeps its scale; a different output scale takes a requantisation behind it."""
    op = Pool2d(source.shape, output.shape, window, maximum=True)
    if source.quantisation == output.quantisation:
        return maps.finish(op, [source])
    rescale_operands(source.quantisation.scale / output.quantisation.scale)
    between = maps.between("max", output, source.quantisation)
    maps.inner("max", op, [source], between)
    return maps.finish(Requantise(output.shape), [between])


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
