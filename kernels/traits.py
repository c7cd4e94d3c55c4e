"""What sets the operators of the vector unit apart for tiling and cost: reads, constants, and how maps may be cut."""

from __future__ import annotations

from math import gcd, prod

from ..common.errors import UnsupportedError
from ..targets.cost import Work, ceil_div, passes, pool_work, resize_reads, vector_work
from ..targets.execute_function import TABLE_POINTS
from ..targets.isa import DType, Opcode
from ..targets.spec import EngineSpec
from ..targets.table_float import TABLE_WORDS
from .cuboid_op import CuboidAttention
from .element_types import elements, input_type, output_type
from .function_ops import Mul, Norm, Reduce, Resize, Softmax, Table
from .ops import Add, Op, Pool2d, Requantise

TABLE_BYTES = {DType.INT8: 256, DType.INT16: 4 * ceil_div(2 * TABLE_POINTS, 4), DType.BF16: 2 * TABLE_WORDS}
SOFTMAX_TABLE_BYTES = 1024  # two tables of 256 int16
NORM_RECORD_BYTES = 12  # bias, multiplier, shift of one channel
_OPCODES: dict[type, Opcode] = {
    Pool2d: Opcode.POOL, Add: Opcode.ADD, Requantise: Opcode.REQUANTISE, Table: Opcode.TABLE, Mul: Opcode.MUL,
    Softmax: Opcode.SOFTMAX, Norm: Opcode.NORM, Reduce: Opcode.REDUCE, Resize: Opcode.RESIZE,
}  # fmt: skip


def opcode(op: Op) -> Opcode:
    """The instruction of a vector operator; `UnsupportedError` for anything else."""
    if type(op) not in _OPCODES:
        raise UnsupportedError(f"{type(op).__name__} is no operator of the vector unit")
    return _OPCODES[type(op)]


def reads(op: Op) -> int:
    """Elements read for each output, once."""
    match op:
        case Pool2d():
            return op.window.taps
        case Add() | Mul():
            return 2
        case Reduce():
            return op.count
        case Resize():
            return resize_reads(bilinear=op.bilinear)
        case _:
            return 1


def vector_reads(op: Op, spec: EngineSpec) -> float:
    """Elements that pass through the lanes for each output: reads × passes."""
    return reads(op) * passes(spec, opcode(op))


def vector_op_work(op: Op, spec: EngineSpec, extent: tuple[int, int, int]) -> Work:
    """Work of one instruction of a vector operator on `extent` outputs (rows, columns, channels)."""
    match op:
        case Pool2d(window=w):
            kernel, stride = (w.kernel_h, w.kernel_w), (w.stride_h, w.stride_w)
            return pool_work(spec, extent, kernel, stride, maximum=op.maximum, elements=elements(op))
        case Requantise():
            return pool_work(spec, extent, (1, 1), (1, 1), maximum=False, elements=elements(op))
        case _:
            return vector_work(spec, prod(extent), vector_reads(op, spec), elements(op))


def constant_bytes(op: Op) -> int:
    """Bytes of the tables or records that any operator but a convolution keeps in SRAM while it runs."""
    match op:
        case Table():
            return TABLE_BYTES[input_type(op)]
        case Softmax():
            return 0 if op.dtype == "bf16" else SOFTMAX_TABLE_BYTES
        case Norm():
            return NORM_RECORD_BYTES * op.output[2]
        case CuboidAttention():
            return op.constant_bytes
        case _:
            return 0


def is_elementwise(op: Op) -> bool:
    """Every element is read exactly where it is written, so that output and input may be one map."""
    return isinstance(op, Add | Requantise | Table | Mul) and input_type(op).bytes == output_type(op).bytes


def channel_unit(op: Op) -> int:
    """Channels of a tile are a multiple of this."""
    match op:
        case Softmax():
            return op.output[2]
        case Norm():
            return op.group
        case _:
            return 1


def row_unit(op: Op) -> int:
    """Rows of a stripe are a multiple of this, unless one stripe is the whole map."""
    match op:
        case Norm(over_map=True):
            return op.output[0]
        case Resize():
            return op.vertical.numerator // gcd(op.vertical.numerator, op.vertical.denominator)
        case _:
            return 1


def channels_read(op: Op) -> int:
    """Input channels for each output channel."""
    return op.count if isinstance(op, Reduce) else 1


def touched(op: Resize) -> int:
    """Elements of the input that some output needs."""
    sizes = [
        len({index for i in range(outputs) for index in _neighbours(scale.index(i), size, bilinear=op.bilinear)})
        for scale, size, outputs in zip((op.vertical, op.horizontal), op.input[:2], op.output[:2], strict=True)
    ]
    return prod(sizes) * op.input[2]


def _neighbours(index: int, size: int, *, bilinear: bool) -> tuple[int, ...]:
    """Indices inside of the map; a nearest element is one of the two, at least one of which is needed."""
    both = max(0, index), min(index + 1, size - 1)
    return both if bilinear else both[:1]
