"""What one bf16 operator should give in real numbers, and how far rounding may take the engine from it.

A running sum of n float32 terms is off by at most γ(n) Σ |term| with γ(n) = n u / (1 − n u), u = 2^−24, whatever
the order (Higham, Accuracy and Stability of Numerical Algorithms, 2002, eq. 4.4 and lemma 3.1); products of two
bf16 numbers are exact in float32. Rounding the result to bf16 costs 2^−8 of it, or 2^−134 among the subnormals.
Maps are (batch, height, width, channels); everything here is float64, whose own error is 2^29 times smaller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.function_ops import Mul, Norm, Reduce, Resize, Softmax, Table
from ..kernels.ops import Add, Conv2d, MatMul, Pool2d, Requantise, Window
from .attention_bounds import attention_results
from .float_functions import function_results
from .float_rounding import Bounded, Reals, gamma, rounded
from .graph import Graph, Node, constants_of


def float64_results(graph: Graph, inputs: Mapping[str, NDArray]) -> Bounded:
    """The only operator of `graph`, which reads or writes bf16; `UnsupportedError` for those without a bound.

    Sums may not leave the range of float32, where the bound has no meaning.
    """
    (node,) = graph.nodes
    given = [inputs[name].astype(np.float64) for name in node.inputs]
    match node.op:
        case Conv2d():
            return _conv2d(graph, node, node.op, given[0])
        case Pool2d(maximum=True):
            return rounded(node, _largest(given[0], node.op), 0.0)
        case Pool2d():
            return _average(node, node.op, given[0])
        case Add():
            return rounded(node, given[0] + given[1], gamma(1) * np.abs(given[0] + given[1]))
        case Requantise():
            return _converted(graph, node, given[0])
        case MatMul():
            return _product(node, node.op, given[0], given[1])
        case CuboidAttention():
            return attention_results(graph, node, node.op, given[0])
        case Table() | Norm() | Mul() | Softmax() | Reduce() | Resize():
            return function_results(graph, node, node.op, given)
    raise UnsupportedError(f"no bound is known for {type(node.op).__name__}", where=f"node {node.name!r}")


def _conv2d(graph: Graph, node: Node, op: Conv2d, x: Reals) -> Bounded:
    constants = constants_of(graph, node)
    weights, bias = constants.weights.astype(np.float64), constants.bias.astype(np.float64)
    exact, terms = _sums(x, weights, op), _sums(np.abs(x), np.abs(weights), op)
    return rounded(node, exact + bias, gamma(op.weights_per_channel + 1) * (terms + np.abs(bias)))


def _product(node: Node, op: MatMul, a: Reals, b: Reals) -> Bounded:
    pattern = "bgmk,bgnk->bgmn" if op.transposed else "bgmk,bgkn->bgmn"
    exact, terms = np.einsum(pattern, a, b), np.einsum(pattern, np.abs(a), np.abs(b))
    return rounded(node, exact, gamma(op.input[2]) * terms)


def _sums(x: Reals, weights: Reals, op: Conv2d) -> Reals:
    total = np.zeros((len(x), *op.output))
    for row, column, patch in _patches(x, op.window, op.output[:2], 0.0):
        tap = weights[:, row, column]
        total += patch * tap[:, 0] if op.depthwise else patch @ tap.T
    return total


def _average(node: Node, op: Pool2d, x: Reals) -> Bounded:
    """The reciprocal of the window's size and the product with it are rounded too."""
    sums, terms = (
        sum(patch for _, _, patch in _patches(values, op.window, op.output[:2], 0.0)) for values in (x, np.abs(x))
    )
    taps = op.window.taps
    return rounded(node, np.asarray(sums) / taps, gamma(taps + 2) * np.asarray(terms) / taps)


def _largest(x: Reals, op: Pool2d) -> Reals:
    found = np.full((len(x), *op.output), -np.inf)
    for _, _, patch in _patches(x, op.window, op.output[:2], -np.inf):
        found = np.maximum(found, patch)
    return found


def _converted(graph: Graph, node: Node, x: Reals) -> Bounded:
    source, target = (graph.tensors[name] for name in (node.inputs[0], node.output))
    if target.dtype == "bf16":
        real = (x - source.quantisation.zero_point) * source.quantisation.scale
        return rounded(node, real, gamma(2) * np.abs(real))
    steps = x / target.quantisation.scale
    exact = np.clip(steps + target.quantisation.zero_point, *node.clamp)
    return Bounded(exact, 0.5 + gamma(2) * np.abs(steps))


def _patches(x: Reals, window: Window, output: tuple[int, int], edge: float) -> Iterator[tuple[int, int, Reals]]:
    """For every kernel position (row, column) the inputs that it meets; `edge` stands outside of the map."""
    (rows, down, high), (cols, right, wide) = _axes(window, output)
    top, left = window.pad_h, window.pad_w
    height = max((rows - 1) * down + high, top + x.shape[1])
    width = max((cols - 1) * right + wide, left + x.shape[2])
    around = np.full((len(x), height, width, x.shape[3]), edge)
    around[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    for row in range(high):
        for column in range(wide):
            lines = slice(row, row + (rows - 1) * down + 1, down)
            places = slice(column, column + (cols - 1) * right + 1, right)
            yield row, column, around[:, lines, places]


def _axes(window: Window, output: tuple[int, int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    return (output[0], window.stride_h, window.kernel_h), (output[1], window.stride_w, window.kernel_w)
