"""What each executed instruction costs: from field values to the work of `cost.py`, remembered per instruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from ..common.errors import ProgramFault
from .cost import (
    Elements,
    Work,
    constants_work,
    conv_work,
    dma_work,
    matmul_work,
    passes,
    pool_work,
    resize_reads,
    vector_work,
)
from .isa import CONTROL, FIELDS, UNIT_OPCODES, ConvMode, DType, Instruction, Opcode, PoolMode, ResizeMode, Unit
from .ranges import check_fields
from .resolve import POSITION, clipped, field_values, transfer_range
from .spec import EngineSpec

_EXTENT_FIELDS = ("row_start", "row_count", "row_limit", "col_count", "chan_start", "chan_count", "chan_limit")
_GROUP_FIELDS = ("g0_start", "g0_count", "g0_limit", "g1_count", "m_count", "n_count", "k_count")
_SHAPE_FIELDS = ("kernel_h", "kernel_w", "stride_h", "stride_w", "mode", "channels_in", "bias_addr")
_CLIP_FIELDS = tuple(f"{name}{d}" for name in ("count", "origin", "limit") for d in range(3))
_TRANSFER_FIELDS = ("count3", *(f"{side}_stride{d}" for side in ("dram", "sram") for d in range(4)))
_IN_KEY = frozenset((*_EXTENT_FIELDS, *_GROUP_FIELDS, *_CLIP_FIELDS, "count3", "size", "packed"))
_RELEVANT = _IN_KEY.union(_SHAPE_FIELDS, _TRANSFER_FIELDS)
_DIMENSIONS = 4

_Transfer = Callable[[EngineSpec, int, int, int], Work]


@dataclass(slots=True)
class Cost:
    """One execution of an instruction: work, cycles without issue, and what it achieves; `hits` counts executions."""

    work: Work
    cycles: float
    macs: int = 0
    vector_elements: int = 0
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    hits: int = 0


class Coster:
    """The costs of one data instruction; they vary only where clipping does."""

    __slots__ = ("_compute", "_costs", "_extents", "_instruction", "_spec", "_steps", "fixed")

    def __init__(self, spec: EngineSpec, instruction: Instruction, *, constants: bool = False) -> None:
        """`constants`: a LOAD from the program's constants, which may lie in flash."""
        self._spec, self._instruction = spec, instruction
        self._compute = (_CONSTANTS_COSTS if constants else _COSTS)[instruction.opcode]
        stepped = {FIELDS[instruction.opcode][step.field] for step in instruction.steps} & _RELEVANT
        self._steps = tuple(s for s in instruction.steps if FIELDS[instruction.opcode][s.field] in stepped)
        self._extents = _EXTENTS[instruction.opcode] if stepped <= _IN_KEY else tuple
        self._costs: dict[tuple[int, ...], Cost] = {}
        self.fixed = None if stepped else self._cost(instruction.fields)

    def at(self, counters: Sequence[int]) -> Cost:
        """The cost at these loop counters; one object for equal extents."""
        return self.fixed or self._cost(field_values(self._instruction, counters, self._steps))

    def costs(self) -> list[Cost]:
        """Every cost that was asked for."""
        return list(self._costs.values())

    def _cost(self, values: Sequence[int]) -> Cost:
        key = self._extents(values)
        found = self._costs.get(key)
        if found is None:
            opcode = self._instruction.opcode
            check_fields(opcode, values)
            found = self._costs[key] = self._compute(self._spec, values, _EXTENTS[opcode](values))
        return found


def _positions(opcode: Opcode, *names: str) -> tuple[int, ...]:
    return tuple(POSITION[opcode][name] for name in names)


def _compute_extents(opcode: Opcode) -> Callable[[Sequence[int]], tuple[int, ...]]:
    row, rows, row_limit, cols, chan, channels, chan_limit = _positions(
        opcode, "row_start", "row_count", "row_limit", "col_count", "chan_start", "chan_count", "chan_limit"
    )

    def extents(v: Sequence[int]) -> tuple[int, ...]:
        return clipped(v[row], v[rows], v[row_limit]), v[cols], clipped(v[chan], v[channels], v[chan_limit])

    return extents


def _group_extents(opcode: Opcode) -> Callable[[Sequence[int]], tuple[int, ...]]:
    start, count, limit, *inner = _positions(opcode, *_GROUP_FIELDS)

    def extents(v: Sequence[int]) -> tuple[int, ...]:
        return (clipped(v[start], v[count], v[limit]), *(v[p] for p in inner))

    return extents


def _elements(opcode: Opcode) -> Callable[[Sequence[int]], Elements]:
    """Element types of an instruction; weights of a convolution are BF16 or INT8."""
    first, out = _positions(opcode, "in_type", "out_type")
    second = POSITION[opcode]["b_type"] if opcode in (Opcode.MATMUL, Opcode.ADD) else None

    def elements(v: Sequence[int]) -> Elements:
        kind = DType(v[first])
        other = DType(v[second]) if second is not None else DType.BF16 if kind is DType.BF16 else DType.INT8
        return Elements(kind, other, DType(v[out]))

    return elements


def _matmul_cost(opcode: Opcode) -> Callable[[EngineSpec, Sequence[int], tuple[int, ...]], Cost]:
    (bias,), elements = _positions(opcode, "bias_addr"), _elements(opcode)

    def cost(spec: EngineSpec, v: Sequence[int], extents: tuple[int, ...]) -> Cost:
        outer, inner, m, n, k = extents
        groups = outer * inner
        work = matmul_work(spec, groups, m, n, k, bias=v[bias] >= 0, elements=elements(v))
        return Cost(work, work.cycles, macs=groups * m * n * k)

    return cost


def _dma_extents(opcode: Opcode) -> Callable[[Sequence[int]], tuple[int, ...]]:
    clips = [_positions(opcode, f"count{d}", f"origin{d}", f"limit{d}") for d in range(_DIMENSIONS - 1)]
    last = POSITION[opcode]["count3"]

    def extents(v: Sequence[int]) -> tuple[int, ...]:
        (n0, o0, l0), (n1, o1, l1), (n2, o2, l2) = clips  # unrolled: this runs for every executed transfer
        return (
            transfer_range(v[n0], v[o0], v[l0])[1],
            transfer_range(v[n1], v[o1], v[l1])[1],
            transfer_range(v[n2], v[o2], v[l2])[1],
            v[last],
        )

    return extents


def _conv_cost(opcode: Opcode) -> Callable[[EngineSpec, Sequence[int], tuple[int, ...]], Cost]:
    kernel_h, kernel_w, mode, inputs, *stride = _positions(
        opcode, "kernel_h", "kernel_w", "mode", "channels_in", "stride_h", "stride_w"
    )
    elements = _elements(opcode)

    def cost(spec: EngineSpec, v: Sequence[int], extents: tuple[int, ...]) -> Cost:
        rows, cols, channels = extents
        depthwise, taps = v[mode] == ConvMode.DEPTHWISE, v[kernel_h] * v[kernel_w]
        residual = opcode is Opcode.CONV_ADD
        work = conv_work(
            spec, rows, cols, channels, v[inputs], v[kernel_h], v[kernel_w],
            depthwise=depthwise, residual=residual, stride=(v[stride[0]], v[stride[1]]), elements=elements(v),
        )  # fmt: skip
        return Cost(work, work.cycles, macs=rows * cols * channels * taps * (1 if depthwise else v[inputs]))

    return cost


def _vector_cost(opcode: Opcode) -> Callable[[EngineSpec, Sequence[int], tuple[int, ...]], Cost]:
    reads, elements = _reads(opcode), _elements(opcode)

    def cost(spec: EngineSpec, v: Sequence[int], extents: tuple[int, ...]) -> Cost:
        rows, cols, channels = extents
        outputs = rows * cols * (channels + 1 if channels and opcode is Opcode.SOFTMAX_LOG else channels)
        per_output = reads(v) * passes(spec, opcode)
        work = vector_work(spec, outputs, per_output, elements(v))
        return Cost(work, work.cycles, vector_elements=ceil(outputs * per_output))

    return cost


def _pool_cost(opcode: Opcode) -> Callable[[EngineSpec, Sequence[int], tuple[int, ...]], Cost]:
    """POOL and REQUANTISE, which an array of blocks computes in the place of the vector lanes."""
    window = _positions(opcode, "kernel_h", "kernel_w", "stride_h", "stride_w", "mode") if opcode is Opcode.POOL else ()
    elements = _elements(opcode)

    def cost(spec: EngineSpec, v: Sequence[int], extents: tuple[int, ...]) -> Cost:
        rows, cols, channels = extents
        kernel_h, kernel_w, stride_h, stride_w, mode = [v[p] for p in window] or (1, 1, 1, 1, PoolMode.SUM)
        work = pool_work(
            spec, (rows, cols, channels), (kernel_h, kernel_w), (stride_h, stride_w),
            maximum=mode == PoolMode.MAX, elements=elements(v),
        )  # fmt: skip
        return Cost(work, work.cycles, vector_elements=rows * cols * channels * kernel_h * kernel_w)

    return cost


def _reads(opcode: Opcode) -> Callable[[Sequence[int]], int]:
    """Elements read for each output, from the fields."""
    if opcode is Opcode.REDUCE:
        (count,) = _positions(opcode, "channels_in")
        return lambda v: v[count]
    if opcode is Opcode.RESIZE:
        (mode,) = _positions(opcode, "mode")
        return lambda v: resize_reads(bilinear=v[mode] == ResizeMode.BILINEAR)
    operands = 2 if opcode in (Opcode.ADD, Opcode.MUL) else 1
    return lambda _: operands


def _dma_cost(
    opcode: Opcode, transfer: _Transfer = dma_work
) -> Callable[[EngineSpec, Sequence[int], tuple[int, ...]], Cost]:
    dram = _positions(opcode, *(f"dram_stride{d}" for d in range(_DIMENSIONS)))
    sram = _positions(opcode, *(f"sram_stride{d}" for d in range(_DIMENSIONS)))

    def cost(spec: EngineSpec, v: Sequence[int], extents: tuple[int, ...]) -> Cost:
        size = extents[0] * extents[1] * extents[2] * extents[3]
        if not size:
            return Cost(Work(), 0.0)
        run_bytes = run_length(extents, [v[p] for p in dram])
        beats = size // run_length(extents, [v[p] for p in sram])
        work = transfer(spec, size // run_bytes, run_bytes, beats)
        read, written = (size, 0) if opcode is Opcode.LOAD else (0, size)
        return Cost(work, work.cycles, dram_read_bytes=read, dram_write_bytes=written)

    return cost


def _sparse_extents(v: Sequence[int]) -> tuple[int, ...]:
    size, packed = _positions(Opcode.LOAD_SPARSE, "size", "packed")
    return v[size], v[packed]


def _sparse_cost(transfer: _Transfer) -> Callable[[EngineSpec, Sequence[int], tuple[int, ...]], Cost]:
    def cost(spec: EngineSpec, v: Sequence[int], extents: tuple[int, ...]) -> Cost:
        size, packed = extents
        work = transfer(spec, 1, packed, 1)
        work = replace(work, sram=max(work.sram, size / spec.sram_bytes_per_cycle))
        return Cost(work, work.cycles, dram_read_bytes=packed)

    return cost


def run_length(counts: Sequence[int], strides: Sequence[int]) -> int:
    """Bytes that a nest of loops (outermost first) touches one after the other before its first jump."""
    length = 1
    for count, stride in zip(reversed(counts), reversed(strides), strict=True):
        if count == 1:
            continue
        if stride != length:
            break
        length *= count
    return length


def sync_values(instruction: Instruction, counters: Sequence[int], semaphores: int) -> tuple[int, int]:
    """Semaphore and count of WAIT or SIGNAL."""
    semaphore, count = field_values(instruction, counters)
    if not 0 <= semaphore < semaphores:
        raise ProgramFault(f"semaphore {semaphore} does not exist, the engine has {semaphores}")
    if count < 0:
        raise ProgramFault(f"a semaphore cannot count by {count}")
    return semaphore, count


_DMA, _CONV = (Opcode.LOAD, Opcode.STORE), (Opcode.CONV, Opcode.CONV_ADD)
_VECTOR = tuple(sorted(UNIT_OPCODES[Unit.VECTOR] - CONTROL))
_EXTENTS = {o: _dma_extents(o) for o in _DMA} | {o: _compute_extents(o) for o in (*_CONV, *_VECTOR)}
_EXTENTS[Opcode.LOAD_SPARSE] = _sparse_extents
_EXTENTS[Opcode.MATMUL] = _group_extents(Opcode.MATMUL)
_COSTS = {o: _dma_cost(o) for o in _DMA} | {o: _conv_cost(o) for o in _CONV} | {o: _vector_cost(o) for o in _VECTOR}
_CONSTANTS_COSTS = {
    Opcode.LOAD: _dma_cost(Opcode.LOAD, constants_work),
    Opcode.LOAD_SPARSE: _sparse_cost(constants_work),
}
_COSTS[Opcode.LOAD_SPARSE] = _sparse_cost(dma_work)
_COSTS |= {o: _pool_cost(o) for o in (Opcode.POOL, Opcode.REQUANTISE)}
_COSTS[Opcode.MATMUL] = _matmul_cost(Opcode.MATMUL)
