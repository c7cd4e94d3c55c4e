"""`to_operator_graph`: the layers of a family as the operator graph that devices are fitted on.

Exporting to ONNX and reading the file gives the same operators seconds later (a test holds the two equal); fits and
searches over thousands of architectures take this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..common.errors import UnsupportedError
from ..estimator.opgraph.graph import OperatorGraph, OperatorNode
from ..estimator.opgraph.operator import Kind, Operator, Shape, Window

if TYPE_CHECKING:
    from ..models.architecture import Architecture
    from ..models.layers import LayerBlock, LayerSpec

INPUT = "input"
_ACTIVATIONS = {"relu": Kind.RELU, "relu6": Kind.CLIP, "sigmoid": Kind.SIGMOID}
_ELEMENTWISE = {"add": Kind.ADD, "mul": Kind.MUL, "zero": Kind.ZERO}
_KNOWN_BLOCKS: WeakKeyDictionary[LayerBlock, dict[str, tuple[OperatorNode, ...]]] = WeakKeyDictionary()


def to_operator_graph(layers: Sequence[LayerSpec], *, dtype: str = "float32") -> OperatorGraph:
    """Everything that `layers` (in execution order) compute, batch 1; normalisation is folded into convolutions.

    Equal operators of one input are kept apart, as an eager runtime executes them: `rewrite.merge_equal` gives the
    graph of an optimising one.

    Raises:
        UnsupportedError: a kind of layer or activation without an operator.
        ModelError: an input that no earlier layer produces.
    """
    if not layers:
        raise UnsupportedError("a network without layers has no graph")
    return _graph(_nodes(layers, dtype), layers[0], layers[-1])


def blocks_to_operator_graph(blocks: Sequence[LayerBlock], *, dtype: str = "float32") -> OperatorGraph:
    """`to_operator_graph` of all layers of `blocks`, thousands of times per second where blocks recur."""
    if not blocks:
        raise UnsupportedError("a network without layers has no graph")
    nodes = [node for block in blocks for node in _block_nodes(block, dtype)]
    return _graph(nodes, blocks[0].layers[0], blocks[-1].layers[-1])


def architecture_graph(
    architecture: Architecture, *, input_channels: int = 3, classes: int = 10, dtype: str = "float32"
) -> OperatorGraph:
    """The operator graph of an architecture of any registered family."""
    from ..models.registry import families

    family = families.get(architecture.family)
    blocks = family.blocks(architecture, input_channels=input_channels, classes=classes)
    return blocks_to_operator_graph(blocks, dtype=dtype)


def _graph(nodes: Sequence[OperatorNode], first: LayerSpec, last: LayerSpec) -> OperatorGraph:
    return OperatorGraph(tuple(nodes), {INPUT: (1, *first.input_shape)}, (last.name,))


def _block_nodes(block: LayerBlock, dtype: str) -> tuple[OperatorNode, ...]:
    known = _KNOWN_BLOCKS.setdefault(block, {})
    if dtype not in known:
        known[dtype] = tuple(_nodes(block.layers, dtype))
    return known[dtype]


def _nodes(layers: Sequence[LayerSpec], dtype: str) -> list[OperatorNode]:
    nodes: list[OperatorNode] = []
    for layer in layers:
        _append(nodes, layer.name, _operators(layer, dtype), layer.inputs)
    return nodes


def _append(nodes: list[OperatorNode], name: str, steps: tuple[Operator, ...], inputs: tuple[str, ...]) -> None:
    """A layer's operators one after the other; the last one carries the layer's name."""
    for number, operator in enumerate(steps, start=1 - len(steps)):
        step = name if number == 0 else f"{name}.{number + len(steps)}"
        nodes.append(OperatorNode(step, operator, inputs))
        inputs = (step,)


def _operators(layer: LayerSpec, dtype: str) -> tuple[Operator, ...]:
    window = (layer.kernel, layer.stride, layer.padding)
    try:
        return _steps(layer.kind, layer.input_shapes, layer.output_shape, window, layer.activation, layer.affine, dtype)
    except UnsupportedError as error:
        raise UnsupportedError(error.what, where=layer.name, hint=error.hint) from None


@lru_cache(maxsize=16384)
def _steps(
    kind: str, inputs: tuple[Shape, ...], output: Shape, sizes: tuple[int, int, int], activation: str, affine: str,
    dtype: str,
) -> tuple[Operator, ...]:  # fmt: skip
    before, after, window = tuple((1, *shape) for shape in inputs), (1, *output), Window.square(*sizes)
    if kind in ("conv", "depthwise"):
        main = _convolution(kind, before[0], after, window, affine, dtype)
    elif kind == "linear":
        return _linear(before[0], after[:2], dtype)
    elif kind == "average_pool":
        main = Operator(Kind.AVERAGE_POOL, before, after, window, dtype=dtype)
    elif kind == "global_average_pool":
        main = Operator(Kind.GLOBAL_POOL, before, after, dtype=dtype)
    elif kind == "batch_norm":
        main = Operator(Kind.BATCH_NORM, before, after, weights=((output[0],),) * 4, dtype=dtype)
    elif kind in _ELEMENTWISE:
        main = Operator(_ELEMENTWISE[kind], before, after, dtype=dtype)
    elif kind == "activation":
        return (_activation(activation, after, dtype),)
    else:
        raise UnsupportedError(f"no operator for a layer of kind {kind!r}")
    return (main,) if activation == "none" else (main, _activation(activation, after, dtype))


def _convolution(kind: str, before: Shape, after: Shape, window: Window, affine: str, dtype: str) -> Operator:
    depthwise = kind == "depthwise"
    fan_in = 1 if depthwise else before[1]
    weights = ((after[1], fan_in, *window.kernel), *(() if affine == "none" else ((after[1],),)))
    if depthwise:
        window = Window(window.kernel, window.stride, padding=window.padding, groups=before[1])
    return Operator(Kind.DEPTHWISE if depthwise else Kind.CONV, (before,), after, window, weights, dtype)


def _linear(before: Shape, after: Shape, dtype: str) -> tuple[Operator, ...]:
    flat, weights = before[:2], ((after[1], before[1]), (after[1],))
    return (
        Operator(Kind.RESHAPE, (before,), flat, dtype=dtype),
        Operator(Kind.LINEAR, (flat,), after, weights=weights, dtype=dtype),
    )


def _activation(name: str, shape: Shape, dtype: str) -> Operator:
    if name not in _ACTIVATIONS:
        hint = f"known: {', '.join(_ACTIVATIONS)}"
        raise UnsupportedError(f"no operator for activation {name!r}", hint=hint)
    return Operator(_ACTIVATIONS[name], (shape,), shape, dtype=dtype)
