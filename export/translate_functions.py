"""One site of a function of the vector unit → a node of the operator graph; see `translate.py`."""

from __future__ import annotations

from fractions import Fraction
from math import gcd

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from ..kernels.function_ops import Mul, Norm, Reduce, Reduction, Resize, Scale, Softmax, Table
from ..kernels.ops import Op
from ..kernels.rescale import rescale_operands
from ..kernels.tables import int16_table, norm_epsilon, norm_records, unary_table
from .graph import Constants, FunctionConstants, NormConstants, TableConstants, Tensor
from .onnx_model import attribute
from .overflow import largest
from .patterns import Normalisation, Unary
from .sites import Site

_REDUCTIONS = {"ReduceMean": Reduction.MEAN, "ReduceMax": Reduction.MAX, "ReduceSum": Reduction.SUM}
_LARGEST_DENOMINATOR = 1024  # of a scale that a model gives as a float


def function(site: Site, inputs: list[Tensor], output: Tensor) -> tuple[Op, Constants | None, list[Tensor]]:
    """Operator, constants and operands of a site whose operator `OPERATORS` names or that has a pattern.

    Raises `UnsupportedError` with the offending value where the numbers do not fit.
    """
    pattern = site.pattern
    if isinstance(pattern, Unary):
        return Table(output.shape), _table(site, pattern, inputs[0], output), inputs
    if isinstance(pattern, Normalisation):
        return *_norm(pattern, inputs[0], output), inputs
    op, operands = _operator(site, inputs, output)
    rescale_operands(_unit(op, operands) / output.quantisation.scale)
    return op, None, operands


def _operator(site: Site, inputs: list[Tensor], output: Tensor) -> tuple[Op, list[Tensor]]:
    kind, source = site.node.op_type, inputs[0]
    match kind:
        case "Mul":
            operands = sorted(inputs, key=lambda tensor: tensor.shape != output.shape)
            return Mul(output.shape, gate=operands[1].shape != output.shape), operands
        case "Softmax":
            return Softmax(source.shape), inputs
        case "Resize":
            return _resize(site, source, output), inputs
        case _:
            return Reduce(source.shape, (*source.shape[:2], 1), _REDUCTIONS[kind]), inputs


def _unit(op: Op, operands: list[Tensor]) -> float:
    """What one unit of the sum before the output stage is worth, to see whether a RESCALE reaches it."""
    scales = [tensor.quantisation.scale for tensor in operands]
    match op:
        case Mul():
            return scales[0] * scales[1]
        case Softmax():
            return 2.0**-15
        case Resize(bilinear=True):
            return scales[0] / (op.vertical.numerator * op.horizontal.numerator)
        case Reduce(mode=Reduction.MEAN):
            return scales[0] / op.count
        case _:
            return scales[0]


def _table(site: Site, pattern: Unary, source: Tensor, output: Tensor) -> TableConstants | FunctionConstants:
    pairs = [(t.quantisation.scale, t.quantisation.zero_point) for t in (source, output)]

    def function(real: NDArray[np.float64]) -> NDArray[np.float32]:
        return pattern.evaluate(site.index, real.astype(np.float32))

    if source.dtype == "int16":
        int16_table(function, pairs[0][0], pairs[1][0])
        return FunctionConstants(function, largest(source))
    return TableConstants(unary_table(function, pairs[0], pairs[1]), function)


def _norm(pattern: Normalisation, source: Tensor, output: Tensor) -> tuple[Norm, NormConstants]:
    op = Norm(output.shape, pattern.groups, pattern.over_map)
    norm_records(op, pattern.gamma, pattern.beta, output.quantisation.scale)
    norm_epsilon(op, pattern.epsilon, source.quantisation.scale)
    return op, NormConstants(pattern.gamma, pattern.beta, pattern.epsilon)


def _resize(site: Site, source: Tensor, output: Tensor) -> Resize:
    node = site.node
    given = _given_scales(site)
    bilinear = attribute(node, "mode", "nearest") == "linear"
    axes: list[Scale] = []
    for axis in range(2):
        size, outputs = source.shape[axis], output.shape[axis]
        scale = given[axis] if given is not None else Fraction(outputs, size)
        n, d, offset = _coordinates(
            attribute(node, "coordinate_transformation_mode", "half_pixel"), scale, size, outputs
        )
        if not bilinear:
            n, d, offset = _nearest(attribute(node, "nearest_mode", "round_prefer_floor"), n, d, offset)
        common = gcd(n, d, offset)
        axes.append(Scale(n // common, d // common, offset // common))
    return Resize(source.shape, output.shape, axes[0], axes[1], bilinear)


def _given_scales(site: Site) -> tuple[Fraction, Fraction] | None:
    """Scales of rows and columns where the model gives scales; None where it gives sizes."""
    name = site.node.input[2] if len(site.node.input) > 2 else ""
    values = site.index.constants.get(name)
    if values is None or values.size != 4:
        return None
    rows, cols = (Fraction(float(v)).limit_denominator(_LARGEST_DENOMINATOR) for v in values[2:])
    return rows, cols


def _coordinates(mode: str, scale: Fraction, size: int, outputs: int) -> tuple[int, int, int]:
    """Input position of output i as (i × d + offset) / n (ONNX, Resize, coordinate_transformation_mode)."""
    up, down = scale.numerator, scale.denominator
    if mode == "asymmetric":
        return up, down, 0
    if mode == "align_corners":
        return (outputs - 1, size - 1 or 1, 0) if outputs > 1 else (1, 1, 0)
    if mode == "pytorch_half_pixel" and outputs == 1:
        return 1, 1, 0
    if mode not in ("half_pixel", "pytorch_half_pixel"):
        raise UnsupportedError(f"coordinates {mode!r}")
    return 2 * up, 2 * down, down - up


def _nearest(mode: str, n: int, d: int, offset: int) -> tuple[int, int, int]:
    """The position moved so that rounding half up, which is TOSA's, gives what ONNX's `nearest_mode` gives."""
    moves = {"floor": -n, "ceil": n - 2, "round_prefer_floor": -1, "round_prefer_ceil": 0}
    if mode not in moves:
        raise UnsupportedError(f"nearest mode {mode!r}")
    return 2 * n, 2 * d, 2 * offset + moves[mode]
