"""Element types of operators: int8, int16 (with int8 weights) or bf16 activations, and what follows from them.

An operator works on one element type; only a `Requantise` leads from one to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ..common.errors import UnsupportedError
from ..targets.cost import Elements
from ..targets.elements import float_bits
from ..targets.isa import DType
from ..targets.program import PORT_TYPES
from .movement_ops import Movement
from .ops import Conv2d, MatMul, Op, Requantise

PRECISIONS = {"int8": "int8", "int8x16": "int16", "bf16": "bf16"}
"""Element type of the activations by the name of the precision that a user chooses."""


def precision_of(ops: Sequence[Op]) -> str:
    """Name of the precision of operators in a row; "int8 to bf16" where they convert."""
    names = {dtype: name for name, dtype in PRECISIONS.items()}
    first, last = names[input_name(ops[0])], names[output_name(ops[-1])]
    return first if first == last else f"{first} to {last}"


def output_name(op: Op | Movement) -> str:
    """Element type of the result, as tensors name it."""
    return op.dtype


def input_name(op: Op | Movement) -> str:
    """Element type of the operands, as tensors name it."""
    return op.source_dtype if isinstance(op, Requantise) else output_name(op)


def operand_names(op: Op | Movement, count: int) -> tuple[str, ...]:
    """Element types of `count` operands: all alike, save that a product of int16 maps takes its second in int8."""
    first = input_name(op)
    return (first, "int8") if isinstance(op, MatMul) and first == "int16" else (first,) * count


def second_type(op: Op | Movement) -> DType:
    """Element type of the second operand."""
    return PORT_TYPES[operand_names(op, 2)[1]]


def input_type(op: Op | Movement) -> DType:
    return PORT_TYPES[input_name(op)]


def output_type(op: Op | Movement) -> DType:
    return PORT_TYPES[output_name(op)]


def weight_type(op: Op | Movement) -> DType:
    """bf16 activations take bf16 weights, both integer ones int8."""
    return DType.BF16 if input_type(op) is DType.BF16 else DType.INT8


def elements(op: Op) -> Elements:
    """Element types for the cost of an operator."""
    second = weight_type(op) if isinstance(op, Conv2d) else second_type(op)
    return Elements(input_type(op), second, output_type(op))


def input_bytes(op: Op) -> int:
    """Bytes of the whole input map."""
    return prod(op.input) * input_type(op).bytes


def output_bytes(op: Op) -> int:
    """Bytes of the whole output map."""
    return prod(op.output) * output_type(op).bytes


def full_range(dtype: str) -> tuple[float, float]:
    """Smallest and largest value of an element type: the clamp that does nothing."""
    if dtype == "bf16":
        return float("-inf"), float("inf")
    bits = 8 * PORT_TYPES[dtype].bytes
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def clamp_fields(clamp: tuple[float, float], dtype: DType) -> tuple[int, int]:
    """act_min and act_max for a clamp in stored units; raises `UnsupportedError` for bounds that are no integers."""
    if dtype is DType.BF16:
        return float_bits(clamp[0]), float_bits(clamp[1])
    low, high = int(clamp[0]), int(clamp[1])
    if (low, high) != tuple(clamp):
        raise UnsupportedError(f"the clamp {clamp} of an integer map must hold integers")
    return low, high
