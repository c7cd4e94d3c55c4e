"""Cycles of one data instruction, by bound, and the element types that they depend on."""

from __future__ import annotations

from dataclasses import dataclass

from .isa import DType
from .spec import EngineSpec

_SUM_BYTES = {DType.INT8: 4, DType.INT16: 8, DType.BF16: 4}  # one partial sum in the accumulators


@dataclass(frozen=True, slots=True)
class Elements:
    """Element types of an array or vector instruction: first operand, weights or second operand, output."""

    first: DType = DType.INT8
    second: DType = DType.INT8
    out: DType = DType.INT8

    def rate(self, spec: EngineSpec) -> float:
        """Multiply-accumulates per cycle as a share of the engine's parallelism."""
        match self.first:
            case DType.INT16:
                return spec.int8x16_rate
            case DType.BF16:
                return spec.bf16_rate
            case _:
                return spec.int8_rate

    @property
    def sum_bytes(self) -> int:
        """Bytes of one partial sum: int32, float32, or 48 bits in the place of 64."""
        return _SUM_BYTES[self.first]


INT8 = Elements()


@dataclass(frozen=True, slots=True)
class Work:
    """Cycles that one instruction needs of each resource, not counting issue."""

    array: float = 0.0
    output: float = 0.0
    vector: float = 0.0
    sram: float = 0.0
    dram: float = 0.0
    flash: float = 0.0

    @property
    def cycles(self) -> float:
        return max(self.array, self.output, self.vector, self.sram, self.dram, self.flash)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)
