"""Each operator of the graph as a sequence of TOSA 1.0 operators with the same bits.

| ours | TOSA |
|---|---|
| Conv2d, dense (also linear, as 1×1) | CONV2D, RESCALE per channel, CLAMP |
| Conv2d, depthwise | DEPTHWISE_CONV2D, RESCALE per channel, CLAMP |
| Pool2d, maximum | MAX_POOL2D, CLAMP |
| Pool2d, average | DEPTHWISE_CONV2D with weights of one, RESCALE that also divides, CLAMP |
| Add | RESCALE of both, ADD in int32, RESCALE, CLAMP |
| Requantise | RESCALE, CLAMP |
| MatMul | RESHAPE to one axis of groups, TRANSPOSE where it is `transposed`, MATMUL, RESCALE, CLAMP, RESHAPE |

int16 maps have accumulators of INT48 and their RESCALE is scale16; an average of them goes through INT32 unchanged.
AVG_POOL2D is of no use: its divisor is a fixed reciprocal of its own and its output has the input's scale, so an
average with another output scale would round twice. TOSA wants windows that end exactly at the padded map; where
ours leave trailing rows or columns unread, a SLICE takes them away first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..kernels.ops import Add, Conv2d, MatMul, Pool2d, Window
from .graph import Clamp, Graph, Node, constants_of
from .reference import add_rescale, conv_rescale, matmul_rescale, node_rescale
from .tosa_writer import TosaWriter, Value

ACCUMULATORS = {"INT8": "INT32", "INT16": "INT48"}
_STORED: dict[str, type[np.integer]] = {"INT8": np.int8, "INT16": np.int16}
_UNIT = (2**30, 30)  # RESCALE by one
_UNIT16 = (2**14, 14)  # RESCALE by one with scale16


def tosa_type(graph: Graph, tensor: str) -> str:
    """TOSA's name for the element type of a tensor."""
    return graph.tensors[tensor].dtype.upper()


def conv2d(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op, constants = node.op, constants_of(graph, node)
    assert isinstance(op, Conv2d)
    x, pad = fitted(w, inputs[0], op.window, op.output[:2])
    if op.depthwise:
        kind, weights = "DEPTHWISE_CONV2D", constants.weights.transpose(1, 2, 0, 3)
    else:
        kind, weights = "CONV2D", constants.weights
    accumulator = _convolve(w, kind, x, weights, constants.bias, (zero_point(graph, node.inputs[0]), op.window, pad))
    return stage(w, graph, node, accumulator, *conv_rescale(graph, node))


def pool2d(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    op = node.op
    assert isinstance(op, Pool2d)
    x, pad = fitted(w, inputs[0], op.window, op.output[:2])
    if not op.maximum:
        channels = x.shape[3]
        ones = np.ones((op.window.kernel_h, op.window.kernel_w, channels, 1))
        places = (zero_point(graph, node.inputs[0]), op.window, pad)
        total = _convolve(w, "DEPTHWISE_CONV2D", x, ones, np.zeros(channels), places)
        if total.dtype == "INT48":
            total = rescale(w, total, *_UNIT16)
        return stage(w, graph, node, total, *node_rescale(graph, node))
    window = op.window
    kernel, stride = [window.kernel_h, window.kernel_w], [window.stride_h, window.stride_w]
    shape = (x.shape[0], *op.output)
    largest = w.op("MAX_POOL2D", [x], shape, x.dtype, kernel, stride, pad, "NanPropagationMode.PROPAGATE")
    return clamp(w, largest, node.clamp)


def add(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    assert isinstance(node.op, Add)
    *operands, total = add_rescale(graph, node)
    a, b = (
        rescale(w, x, *operand, zero_in=zero_point(graph, name))
        for x, operand, name in zip(inputs, operands, node.inputs, strict=True)
    )
    return stage(w, graph, node, w.op("ADD", [a, b], a.shape, "INT32"), *total)


def requantise(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    return stage(w, graph, node, inputs[0], *node_rescale(graph, node), zero_in=zero_point(graph, node.inputs[0]))


def matmul(w: TosaWriter, graph: Graph, node: Node, inputs: Sequence[Value]) -> Value:
    """Beside int16 the second operand is widened to it: MATMUL wants both of one type."""
    op, (a, b) = node.op, inputs
    assert isinstance(op, MatMul)
    zeros = [zero_point(graph, name) for name in node.inputs]
    if b.dtype != a.dtype:
        b, zeros[1] = rescale(w, b, *_UNIT, zero_in=zeros[1], dtype=a.dtype), 0
    batch = a.shape[0]
    a, b = (w.reshape(x, (batch * x.shape[1], *x.shape[2:])) for x in (a, b))
    if op.transposed:
        b = w.op("TRANSPOSE", [b], (b.shape[0], b.shape[2], b.shape[1]), b.dtype, [0, 2, 1])
    dtype = ACCUMULATORS[a.dtype]
    operands = [a, b, *(w.constant([zero], a.dtype) for zero in zeros)]
    product = w.op("MATMUL", operands, (*a.shape[:2], b.shape[2]), dtype)
    result = stage(w, graph, node, product, *matmul_rescale(graph, node))
    return w.reshape(result, (batch, *op.output))


def stage(
    w: TosaWriter, graph: Graph, node: Node, x: Value, multiplier: ArrayLike, shift: ArrayLike, zero_in: int = 0,
    *, narrow: bool = False,
) -> Value:  # fmt: skip
    """The engine's output stage: RESCALE to the zero point of the node's output, then its clamp."""
    zero_out = zero_point(graph, node.output)
    dtype = tosa_type(graph, node.output)
    found = rescale(w, x, multiplier, shift, zero_in=zero_in, zero_out=zero_out, dtype=dtype, narrow=narrow)
    return clamp(w, found, node.clamp)


def rescale(
    w: TosaWriter,
    x: Value,
    multiplier: ArrayLike,
    shift: ArrayLike,
    *,
    zero_in: int = 0,
    zero_out: int = 0,
    dtype: str = "INT32",
    narrow: bool = False,
) -> Value:
    """RESCALE, single rounding; per channel (last axis) when `multiplier` is an array. INT48 takes scale16, as
    everything does that is `narrow`."""
    wide = x.dtype != "INT48" and not narrow
    scales = np.atleast_1d(np.asarray(multiplier)), np.atleast_1d(np.asarray(shift))
    operands = [w.constant(scales[0], "INT32" if wide else "INT16"), w.constant(scales[1], "INT8")]
    zeros = [w.constant([zero_in], x.dtype), w.constant([zero_out], dtype)]
    per_channel = np.ndim(multiplier) > 0
    attribute = (wide, "RoundingMode.SINGLE_ROUND", per_channel, False, False)
    return w.op("RESCALE", [x, *operands, *zeros], x.shape, dtype, *attribute)


def clamp(w: TosaWriter, x: Value, bounds: Clamp) -> Value:
    """CLAMP of an int8 or int16 value; none where the bounds are those of the type."""
    stored = _STORED[x.dtype]
    if bounds == (np.iinfo(stored).min, np.iinfo(stored).max):
        return x
    low, high = (np.array([bound], stored).tobytes() for bound in bounds)
    return w.op("CLAMP", [x], x.shape, x.dtype, list(low), list(high), "NanPropagationMode.PROPAGATE")


def zero_point(graph: Graph, tensor: str) -> int:
    return graph.tensors[tensor].quantisation.zero_point


def fitted(w: TosaWriter, x: Value, window: Window, output: tuple[int, int]) -> tuple[Value, list[int]]:
    """`x` without the rows and columns that no window reads, and TOSA's padding: top, bottom, left, right."""
    axes = ((window.kernel_h, window.stride_h, window.pad_h), (window.kernel_w, window.stride_w, window.pad_w))
    pad: list[int] = []
    sizes = list(x.shape)
    for axis, (kernel, stride, before) in enumerate(axes, start=1):
        read = (output[axis - 1] - 1) * stride + kernel - before
        pad += [before, max(0, read - x.shape[axis])]
        sizes[axis] = min(read, x.shape[axis])
    if tuple(sizes) == x.shape:
        return x, pad
    return w.op("SLICE", [x, w.shape(0, 0, 0, 0), w.shape(*sizes)], sizes, x.dtype), pad


def _convolve(
    w: TosaWriter, kind: str, x: Value, weights: ArrayLike, bias: ArrayLike, places: tuple[int, Window, list[int]]
) -> Value:
    """CONV2D or DEPTHWISE_CONV2D into int32 or, for int16, INT48; `places`: zero point of x, window, its padding."""
    zero, window, pad = places
    dtype = ACCUMULATORS[x.dtype]
    operands = [w.constant(weights, "INT8"), w.constant(bias, dtype)]
    zeros = [w.constant([zero], x.dtype), w.constant([0], "INT8")]
    rows = (x.shape[1] + pad[0] + pad[1] - window.kernel_h) // window.stride_h + 1
    cols = (x.shape[2] + pad[2] + pad[3] - window.kernel_w) // window.stride_w + 1
    shape = (x.shape[0], rows, cols, operands[1].shape[0])
    attribute = (pad, [window.stride_h, window.stride_w], [1, 1], False, f"DType.{dtype}")
    return w.op(kind, [x, *operands, *zeros], shape, dtype, *attribute)
