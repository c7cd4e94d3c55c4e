"""LOAD and STORE: strided copies between DRAM and SRAM, clipped to the tensor. LOAD_SPARSE: weights without zeros."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ProgramFault
from .isa import Opcode
from .memory import Box, Memory
from .resolve import transfer_range

DIMENSIONS = 4
CLIPPED_DIMENSIONS = 3


def execute_dma(dram: Memory, sram: Memory, opcode: Opcode, f: Mapping[str, int], constant_bytes: int) -> int:
    """Runs one transfer; returns the bytes it moves per run. DRAM below `constant_bytes` is read-only."""
    boxes = transfer_boxes(f)
    if boxes is None:
        return 0
    outside, inside = boxes
    if opcode is Opcode.LOAD:
        dram.check(outside)
        sram.check(inside)
        _check_size(inside, sram)
        sram.write(inside, dram.read(outside))
    else:
        if outside.low < constant_bytes:
            raise ProgramFault(f"STORE to DRAM byte {outside.low}, inside of the {constant_bytes} bytes of constants")
        dram.check(outside)
        sram.check(inside)
        _check_size(outside, dram)
        dram.write(outside, sram.read(inside))
    return _elements(inside)


def execute_sparse(dram: Memory, sram: Memory, f: Mapping[str, int]) -> int:
    """Runs one LOAD_SPARSE; returns the bytes that it writes per run."""
    size, packed = f["size"], f["packed"]
    inside = Box(f["sram_addr"], (size,), (1,))
    outside = Box(f["dram_addr"], (packed,), (1,))
    dram.check(outside)
    sram.check(inside)
    source = dram.read(outside)
    sram.write(inside, np.stack([unpack(run.view(np.uint8), size) for run in source]))
    return size


def pack(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What LOAD_SPARSE expands to `data`: a mask of the bytes that are not zero, and these."""
    kept = data != 0
    return np.concatenate([np.packbits(kept, bitorder="little"), data[kept]])


def unpack(packed: NDArray[np.uint8], size: int) -> NDArray[np.int8]:
    """The inverse of `pack`. Raises `ProgramFault` when the mask asks for more bytes than there are."""
    mask_bytes = -(-size // 8)
    kept = np.unpackbits(packed[:mask_bytes], bitorder="little")[:size].astype(np.bool_)
    count = int(kept.sum())
    if len(packed) < mask_bytes or count > len(packed) - mask_bytes:
        raise ProgramFault(f"the mask names {count} of {size} bytes, {len(packed)} bytes hold fewer behind it")
    found = np.zeros(size, np.uint8)
    found[kept] = packed[mask_bytes : mask_bytes + count]
    return found.view(np.int8)


def transfer_boxes(f: Mapping[str, int]) -> tuple[Box, Box] | None:
    """The boxes in DRAM and in SRAM that a transfer connects, or None when all of it is clipped."""
    dram_addr, sram_addr = f["dram_addr"], f["sram_addr"]
    counts: list[int] = []
    for d in range(DIMENSIONS):
        first, count = 0, f[f"count{d}"]
        if d < CLIPPED_DIMENSIONS:
            origin = f[f"origin{d}"]
            first, count = transfer_range(count, origin, f[f"limit{d}"])
            dram_addr += (origin + first) * f[f"dram_stride{d}"]
            sram_addr += first * f[f"sram_stride{d}"]
        counts.append(count)
    if min(counts) <= 0:
        return None
    dram_strides = tuple(f[f"dram_stride{d}"] for d in range(DIMENSIONS))
    sram_strides = tuple(f[f"sram_stride{d}"] for d in range(DIMENSIONS))
    return Box(dram_addr, tuple(counts), dram_strides), Box(sram_addr, tuple(counts), sram_strides)


def _elements(box: Box) -> int:
    a, b, c, d = box.counts
    return a * b * c * d


def _check_size(box: Box, memory: Memory) -> None:
    """Before anything of that size is touched: more elements than bytes cannot all have their own."""
    if _elements(box) > memory.size:
        raise ProgramFault(f"{_elements(box)} elements do not fit the {memory.size} bytes of {memory.name}")
