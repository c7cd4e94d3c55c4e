"""`to_graph`: the layers of a family as the shape-only operator graph that compiler and estimator work on.

Exporting to ONNX and importing it again gives the same operators in the same order, two seconds later; a search
that estimates hundreds of architectures takes this way instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..common.errors import UnsupportedError
from ..export.graph import Graph, Node, Tensor
from ..kernels.ops import Add, Conv2d, Op, Pool2d, Shape, Window

if TYPE_CHECKING:
    from ..models.layers import LayerSpec

INPUT = "input"


def to_graph(layers: Sequence[LayerSpec]) -> Graph:
    """The operator graph of `layers` (in execution order); activations become clamps, which cost nothing by themselves.

    An unknown kind of layer raises `UnsupportedError`, an input that nothing produces `ModelError`.
    """
    if not layers:
        raise UnsupportedError("a network without layers has no graph")
    first = layers[0].input_shape
    tensors = {INPUT: Tensor(INPUT, _hwc(first), host_shape=tuple(first))}
    for layer in layers:
        tensors[layer.name] = Tensor(layer.name, _hwc(layer.output_shape), host_shape=_host_shape(layer))
    nodes = tuple(
        Node(layer.name, _op(layer), tuple(layer.inputs), layer.name, source=(layer.name,)) for layer in layers
    )
    return Graph(nodes, tensors, (INPUT,), (layers[-1].name,))


def _op(layer: LayerSpec) -> Op:
    source, target = _hwc(layer.input_shape), _hwc(layer.output_shape)
    match str(layer.kind):
        case "conv" | "depthwise":
            size, step, pad = layer.kernel, layer.stride, layer.padding
            return Conv2d(source, target, Window(size, size, step, step, pad, pad), depthwise=layer.kind == "depthwise")
        case "linear":
            return Conv2d(source, target, Window(1, 1))
        case "global_average_pool":
            return Pool2d(source, target, Window(source[0], source[1]), maximum=False)
        case "add":
            return Add(target)
        case kind:
            known = "conv, depthwise, add, global_average_pool, linear"
            raise UnsupportedError(
                f"no operator for a layer of kind {kind!r}", where=layer.name, hint=f"known: {known}"
            )


def _hwc(shape: Sequence[int]) -> Shape:
    """(C, H, W) or (C,) as (height, width, channels)."""
    channels, height, width = (*shape, 1, 1)[:3]
    return (height, width, channels)


def _host_shape(layer: LayerSpec) -> tuple[int, ...]:
    return tuple(layer.output_shape[:1]) if str(layer.kind) == "linear" else tuple(layer.output_shape)
