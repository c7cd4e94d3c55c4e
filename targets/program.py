"""`Program`: what one engine executes, as a value. `encoding.py` turns it into bytes and back."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from .isa import DType, Instruction, Unit
from .spec import EngineSpec

HOST_TYPES = {"int8": np.dtype(np.int8), "int16": np.dtype(np.int16), "bf16": np.dtype(np.float32)}
PORT_TYPES = {"int8": DType.INT8, "int16": DType.INT16, "bf16": DType.BF16}


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor that the host writes (input) or reads (output).

    `shape` is the host's shape without the batch axis, for a feature map (channels, height, width). In DRAM the
    elements are dense in that order, in SRAM a map lies as the engine has it, [row][column][channel]. `dtype` is one
    of `PORT_TYPES`; only int8 has a zero point, and the values of bf16 are real ones, of scale 1.
    """

    name: str
    address: int
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    dtype: str = "int8"
    memory: str = "dram"  # or "sram"

    @property
    def is_channels_last(self) -> bool:
        """True for a feature map in SRAM."""
        return self.memory == "sram" and len(self.shape) == 3

    @property
    def size_bytes(self) -> int:
        return PORT_TYPES[self.dtype].bytes * prod(self.shape)


@dataclass(frozen=True, slots=True)
class Mark:
    """From instruction number `index` of `unit` on, the code belongs to subgraph `label`."""

    unit: Unit
    index: int
    label: str


@dataclass(frozen=True, slots=True)
class Program:
    """Instructions, constants and memory plan of one engine region.

    DRAM addresses [0, len(constants)) hold the constants; ports and spilled tensors follow below `dram_bytes`.
    `sram_bytes` is the peak of the memory plan: no instruction touches SRAM at or beyond it.
    """

    spec: EngineSpec
    queues: dict[Unit, tuple[Instruction, ...]]
    constants: bytes
    dram_bytes: int
    sram_bytes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    marks: tuple[Mark, ...] = ()
