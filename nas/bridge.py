"""`to_graph`: the layers of a family as the shape-only operator graph that compiler and estimator work on.

Exporting to ONNX and importing it again gives the same operators in the same order, two seconds later; a search
that estimates hundreds of architectures takes this way instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..common.errors import UnsupportedError
from ..export.graph import Graph, Node, Tensor
from ..kernels.function_ops import Mul, Table
from ..kernels.ops import Add, Conv2d, Op, Pool2d, Requantise, Shape, Window

if TYPE_CHECKING:
    from ..models.layers import LayerSpec

INPUT = "input"
WINDOWED = ("conv", "depthwise", "linear", "batch_norm", "global_average_pool")
_KNOWN = "conv, depthwise, linear, global_average_pool, average_pool, batch_norm, add, mul, activation, zero"


def to_graph(layers: Sequence[LayerSpec]) -> Graph:
    """The operator graph of `layers` (in execution order); clamping activations cost nothing by themselves.

    Raises:
        UnsupportedError: a kind of layer that no operator of the engine computes, such as an average over padding.
        ModelError: an input that nothing produces.
    """
    if not layers:
        raise UnsupportedError("a network without layers has no graph")
    builder = _Builder(layers)
    for layer in layers:
        builder.add(layer)
    return Graph(tuple(builder.nodes), builder.tensors, (INPUT,), (builder.name(layers[-1].name),))


class _Builder:
    """Appends the nodes of one layer after the other. A clamp behind a result that nobody else reads is that result."""

    def __init__(self, layers: Sequence[LayerSpec]) -> None:
        first = layers[0].input_shape
        self.nodes: list[Node] = []
        self.tensors = {INPUT: Tensor(INPUT, _hwc(first), host_shape=tuple(first))}
        self._readers = Counter(name for layer in layers for name in layer.inputs)
        self._renamed: dict[str, str] = {}

    def name(self, layer: str) -> str:
        """The tensor that holds a layer's result."""
        return self._renamed.get(layer, layer)

    def add(self, layer: LayerSpec) -> None:
        inputs = tuple(self.name(name) for name in layer.inputs)
        if str(layer.kind) == "activation" and layer.activation != "sigmoid" and self._is_clamp(layer):
            self._renamed[layer.name] = inputs[0]
            return
        op = _op(layer)
        gated = layer.activation == "sigmoid" and str(layer.kind) != "activation"
        first = f"{layer.name}.before" if gated else layer.name
        self._append(layer, first, op, inputs)
        if gated:
            self._append(layer, layer.name, Table(_hwc(layer.output_shape)), (first,))

    def _is_clamp(self, layer: LayerSpec) -> bool:
        (source,) = layer.inputs
        return source != INPUT and self._readers[source] == 1

    def _append(self, layer: LayerSpec, name: str, op: Op, inputs: tuple[str, ...]) -> None:
        self.tensors[name] = Tensor(name, _hwc(layer.output_shape), host_shape=_host_shape(layer))
        self.nodes.append(Node(name, op, inputs, name, source=(layer.name,)))


def _op(layer: LayerSpec) -> Op:
    kind = str(layer.kind)
    if kind in WINDOWED:
        return windowed(kind, layer.input_shape, layer.output_shape, (layer.kernel, layer.stride, layer.padding))
    target = _hwc(layer.output_shape)
    match kind:
        case "average_pool":
            return _average_pool(layer, _hwc(layer.input_shape), target)
        case "add":
            return Add(target)
        case "mul":
            return Mul(target, gate=layer.input_shapes[1] != layer.input_shape)
        case "zero":
            return Table(target)
        case "activation":
            return Table(target) if layer.activation == "sigmoid" else Requantise(target)
        case _:
            raise UnsupportedError(
                f"no operator for a layer of kind {kind!r}", where=layer.name, hint=f"known: {_KNOWN}"
            )


def windowed(kind: str, input_shape: Sequence[int], output_shape: Sequence[int], window: tuple[int, int, int]) -> Op:
    """The operator of a layer of a kind in `WINDOWED`; shapes (C, H, W), `window` kernel, stride and padding."""
    source, target = _hwc(input_shape), _hwc(output_shape)
    match kind:
        case "conv" | "depthwise":
            size, step, pad = window
            return Conv2d(source, target, Window(size, size, step, step, pad, pad), depthwise=kind == "depthwise")
        case "global_average_pool":
            return Pool2d(source, target, Window(source[0], source[1]), maximum=False)
        case _:
            return Conv2d(source, target, Window(1, 1), depthwise=kind == "batch_norm")


def _average_pool(layer: LayerSpec, source: Shape, target: Shape) -> Op:
    if layer.padding:
        raise UnsupportedError(
            "the engine averages whole windows only, and this pool leaves padding out of its means", where=layer.name,
            hint="export the network instead: such pools then run on the CPU",
        )  # fmt: skip
    size, step = layer.kernel, layer.stride
    return Pool2d(source, target, Window(size, size, step, step), maximum=False)


def _hwc(shape: Sequence[int]) -> Shape:
    """(C, H, W) or (C,) as (height, width, channels)."""
    channels, height, width = (*shape, 1, 1)[:3]
    return (height, width, channels)


def _host_shape(layer: LayerSpec) -> tuple[int, ...]:
    return tuple(layer.output_shape[:1]) if str(layer.kind) == "linear" else tuple(layer.output_shape)
