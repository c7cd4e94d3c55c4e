"""Tables, products, softmax, normalisation, reductions and resizing in float64, and the largest errors of bf16.

Beyond its entries a table means its straight lines. Where rounding may make a variance 0, a normalisation has no bound.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from ..kernels.function_ops import Mul, Norm, Reduce, Reduction, Resize, Scale, Softmax, Table
from ..targets.table_float import TABLE_SIDE, table_inputs
from .float_rounding import FLOAT32_UNIT, Bounded, Reals, gamma, rounded
from .functions import floats_of, norm_of
from .graph import FunctionConstants, Graph, Node

_FunctionOp: TypeAlias = Table | Norm | Mul | Softmax | Reduce | Resize
_LEAST = 2.0**-149  # of float32


def function_results(graph: Graph, node: Node, op: _FunctionOp, given: list[Reals]) -> Bounded:
    """The exact results of an operator of bf16 maps (batch, height, width, channels), and their largest errors."""
    x = given[0]
    match op:
        case Table():
            return _table(graph, node, x)
        case Mul():
            product = x * given[1]
            return rounded(node, product, gamma(1) * np.abs(product))
        case Softmax():
            return _softmax(node, x)
        case Norm():
            return _norm(graph, node, op, x)
        case Reduce():
            return _reduce(node, op, x)
        case Resize():
            exact, terms = (_resized(values, op) for values in (x, np.abs(x)))
            return rounded(node, exact, gamma(6) * terms if op.bilinear else 0.0)


def _table(graph: Graph, node: Node, x: Reals) -> Bounded:
    constants, table = graph.constants[node.name], floats_of(graph, node)
    assert isinstance(constants, FunctionConstants)
    held = np.abs(table_inputs(table.exponent)[:TABLE_SIDE]).astype(np.float64)
    inside = (np.abs(x) >= held[0]) & (np.abs(x) <= held[-1])
    line = np.where(np.abs(x) < held[0], 0, np.where(x < 0, 2, 1))
    offset, slope = (table.lines[line, part].astype(np.float64) for part in (0, 1))
    exact = np.where(inside, constants.function(x), offset + slope * x)
    on_line = gamma(2) * (np.abs(offset) + np.abs(slope * x))
    return rounded(node, exact, np.where(inside, FLOAT32_UNIT * np.abs(exact), on_line))


def _softmax(node: Node, x: Reals) -> Bounded:
    """The distance from the maximum is rounded before its exponential is taken: an error in proportion to it."""
    below = x - x.max(axis=-1, keepdims=True)
    powers = np.exp(below)
    shares = powers / powers.sum(axis=-1, keepdims=True)
    reach = np.abs(below) + (shares * np.abs(below)).sum(axis=-1, keepdims=True)
    relative = np.expm1(np.minimum(2 * FLOAT32_UNIT * reach, 1)) + gamma(x.shape[-1] + 4)
    return rounded(node, shares, relative * shares + 2 * x.shape[-1] * _LEAST)


def _norm(graph: Graph, node: Node, op: Norm, x: Reals) -> Bounded:
    constants = norm_of(graph, node)
    split = x.reshape(*x.shape[:3], op.groups, op.group)
    axes = (1, 2, 4) if op.over_map else (4,)

    def mean(values: Reals) -> Reals:
        return values.mean(axis=axes, keepdims=True)

    centred = split - mean(split)
    shift = gamma(op.count + 1) * mean(np.abs(split))
    apart = shift + FLOAT32_UNIT * (np.abs(centred) + shift)
    wide = mean((np.abs(centred) + apart) ** 2) + constants.epsilon
    spread = mean(centred**2) + constants.epsilon
    moved = mean((2 * np.abs(centred) + apart) * apart) + gamma(op.count + 4) * wide + op.count * _LEAST
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = (centred / np.sqrt(spread)).reshape(x.shape)
        worst = (np.abs(centred) + apart) / np.sqrt(np.maximum(spread - moved, 0))
        between = np.abs(centred) * (1 / np.sqrt(np.maximum(spread - moved, 0)) - 1 / np.sqrt(spread))
        errors = apart / np.sqrt(np.maximum(spread - moved, 0)) + between + gamma(3) * worst
        errors = np.where(spread > moved, errors, np.inf).reshape(x.shape)
        gamma_k, beta = constants.gamma.astype(np.float64), constants.beta.astype(np.float64)
        scaled = exact * gamma_k
        total = np.where(np.isfinite(errors), errors * np.abs(gamma_k), np.inf)
        total = total + gamma(4) * (np.abs(scaled) + total + np.abs(beta))
        return rounded(node, scaled + beta, total)


def _reduce(node: Node, op: Reduce, x: Reals) -> Bounded:
    grouped = x.reshape(*x.shape[:3], op.output[2], op.count)
    if op.mode is Reduction.MAX:
        return rounded(node, grouped.max(axis=-1), 0.0)
    divisor = op.count if op.mode is Reduction.MEAN else 1
    exact, terms = (values.sum(axis=-1) / divisor for values in (grouped, np.abs(grouped)))
    return rounded(node, exact, gamma(op.count + 2) * terms)


def _resized(x: Reals, op: Resize) -> Reals:
    """As two matrices: one for the rows, one for the columns."""
    down = _matrix(op.vertical, op.input[0], op.output[0], bilinear=op.bilinear)
    right = _matrix(op.horizontal, op.input[1], op.output[1], bilinear=op.bilinear)
    return np.einsum("or,brck,pc->bopk", down, x, right)


def _matrix(scale: Scale, size: int, outputs: int, *, bilinear: bool) -> Reals:
    """Weights of the inputs (columns) in the outputs (rows) of one axis."""
    found = np.zeros((outputs, size))
    for position in range(outputs):
        low, part = divmod(position * scale.denominator + scale.offset, scale.numerator)
        share = part / scale.numerator if bilinear else float(2 * part >= scale.numerator)
        for index, weight in ((low, 1 - share), (low + 1, share)):
            found[position, min(max(index, 0), size - 1)] += weight
    return found
