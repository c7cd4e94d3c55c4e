"""Small hand-built programs, and the meaning of every opcode in plain Python integers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanefit.targets.isa import (
    FIELDS,
    MAX_LOOPS,
    NO_LIMIT,
    TYPE_FIELDS,
    UNIT_OPCODES,
    Instruction,
    Opcode,
    Step,
    Unit,
)
from lanefit.targets.program import PORT_TYPES, Mark, Port, Program
from lanefit.targets.ranges import TYPES
from lanefit.targets.spec import EngineSpec

Array: TypeAlias = NDArray[Any]
Fields: TypeAlias = dict[str, int]
Shape: TypeAlias = tuple[int, int, int]
Triple: TypeAlias = tuple[int, int, int]
SPEC = EngineSpec(
    name="tiny", clock_mhz=100, input_lanes=4, output_lanes=4, sram_bytes=65536, sram_bytes_per_cycle=16,
    dram_bytes_per_cycle=4, output_elements_per_cycle=2, vector_lanes=4, dram_latency_cycles=20,
    dram_burst_bytes=16, issue_cycles=8, weight_decoder=True, semaphores=16, accumulator_bytes=4096,
)  # fmt: skip
_NEUTRAL = {
    "act_min": -128, "act_max": 127, "conv_min": -128, "conv_max": 127, "kernel_h": 1, "kernel_w": 1, "stride_h": 1,
    "stride_w": 1, "row_limit": NO_LIMIT, "chan_limit": NO_LIMIT, "limit0": NO_LIMIT, "limit1": NO_LIMIT,
    "limit2": NO_LIMIT, "count0": 1, "count1": 1, "count2": 1, "count3": 1, "channels_in": 1,
    "multiplier": 1 << 30, "shift": 30, "a_multiplier": 1 << 30, "a_shift": 30, "b_multiplier": 1 << 30, "b_shift": 30,
    "sum_multiplier": 1 << 30, "sum_shift": 30, "g0_count": 1, "g0_limit": NO_LIMIT, "g1_count": 1, "m_count": 1,
    "n_count": 1, "k_count": 1, "bias_addr": -1,
}  # fmt: skip


def instruction(opcode: Opcode, steps: Mapping[str, tuple[Any, ...]] | None = None, /, **fields: int) -> Instruction:
    """An instruction with neutral values for what is not given; a step is (coefficients, increment[, modulo])."""
    names = FIELDS[opcode]
    unknown = set(fields) - set(names)
    assert not unknown, f"{opcode.name} has no {unknown}"
    values = tuple(fields.get(name, _NEUTRAL.get(name, 0)) for name in names)
    return Instruction(opcode, values, tuple(Step(names.index(n), *s) for n, s in (steps or {}).items()))


def loop(count: int) -> Instruction:
    return Instruction(Opcode.LOOP, (count,))


END = Instruction(Opcode.END)


def wait(semaphore: int, count: int = 1) -> Instruction:
    return Instruction(Opcode.WAIT, (semaphore, count))


def signal(semaphore: int, count: int = 1) -> Instruction:
    return Instruction(Opcode.SIGNAL, (semaphore, count))


def program(
    queues: Mapping[Unit, Sequence[Instruction]],
    *,
    constants: bytes = b"",
    inputs: Sequence[Port] = (),
    outputs: Sequence[Port] = (),
    dram_bytes: int = 4096,
    sram_bytes: int = 65536,
    marks: Sequence[Mark] = (),
    spec: EngineSpec = SPEC,
) -> Program:
    """A program from any of the four queues."""
    full = {unit: tuple(queues.get(unit, ())) for unit in Unit}
    return Program(spec, full, constants, dram_bytes, sram_bytes, tuple(inputs), tuple(outputs), tuple(marks))


@dataclass
class Layout:
    """Collects operands at rising addresses in DRAM and SRAM, and the LOADs between them."""

    constants: bytes = b""
    dram: int = 0
    sram: int = 0
    loads: list[Instruction] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)

    def constant(self, data: bytes) -> int:
        """SRAM address of constant bytes; all constants must come before all maps."""
        assert not self.inputs
        address = self.sram
        self.loads.append(
            instruction(
                Opcode.LOAD, dram_addr=len(self.constants), sram_addr=address, count3=len(data),
                dram_stride3=1, sram_stride3=1,
            )
        )  # fmt: skip
        self.constants += data
        self.dram = len(self.constants)
        self.sram += len(data)
        return address

    def map(
        self, name: str, shape: Shape, *, gap: int = 0, rows: range | None = None, wrap: int = 0, dtype: str = "int8"
    ) -> dict[str, int]:
        """View fields (without prefix) of an input map in SRAM, with `gap` unused bytes between columns.

        Only `rows` of it are loaded; with `wrap` they go to row mod wrap, one LOAD per row.
        """
        height, width, channels = shape[0], shape[1], shape[2] * PORT_TYPES[dtype].bytes
        chosen = range(height) if rows is None else rows
        pitch_w = channels + gap
        pitch_h = width * pitch_w + gap
        self.inputs.append(Port(name, self.dram, shape, 1.0, 0, dtype))
        row0 = 0 if wrap else chosen.start
        for row in chosen:
            local = row % wrap if wrap else row - row0
            self.loads.append(
                instruction(
                    Opcode.LOAD, dram_addr=self.dram + row * width * channels, sram_addr=self.sram + local * pitch_h,
                    count2=width, count3=channels, dram_stride2=channels, dram_stride3=1,
                    sram_stride2=pitch_w, sram_stride3=1,
                )
            )  # fmt: skip
        address = self.sram
        self.dram += height * width * channels
        self.sram += (wrap or len(chosen)) * pitch_h
        found = {"addr": address, "pitch_h": pitch_h, "pitch_w": pitch_w, "row0": row0, "wrap": wrap, "chan0": 0}
        return {**found, "type": int(PORT_TYPES[dtype])}


def view(prefix: str, fields: Fields) -> Fields:
    return {f"{prefix}_{name}": value for name, value in fields.items()}


def one_instruction(layout: Layout, opcode: Opcode, shape: Shape, dtype: str = "int8", /, **fields: int) -> Program:
    """LOADs, one compute instruction into a dense map of `shape` (rows, columns, channels), and its STORE."""
    rows, cols, channels = shape
    width = PORT_TYPES[dtype].bytes
    size = rows * cols * channels * width
    out = {"addr": layout.sram, "pitch_h": cols * channels * width, "pitch_w": channels * width, "wrap": 0}
    out["type"] = int(PORT_TYPES[dtype])
    out |= {"row0": fields.get("row_start", 0), "chan0": fields.get("chan_start", 0)}
    ranges = {"row_count": rows, "col_count": cols, "chan_count": channels}
    compute = instruction(opcode, **{**ranges, **view("out", out), **fields})
    unit = Unit.ARRAY if opcode in (Opcode.CONV, Opcode.CONV_ADD) else Unit.VECTOR
    store = instruction(
        Opcode.STORE, dram_addr=layout.dram, sram_addr=layout.sram, count3=size, dram_stride3=1, sram_stride3=1
    )
    return program(
        {
            Unit.DMA_IN: [*layout.loads, signal(0)],
            unit: [wait(0), compute, signal(1)],
            Unit.DMA_OUT: [wait(1), store],
        },
        constants=layout.constants, inputs=layout.inputs, outputs=[Port("y", layout.dram, shape, 1.0, 0, dtype)],
        dram_bytes=layout.dram + size, sram_bytes=layout.sram + size,
        marks=[Mark(u, 0, "operands" if u is Unit.DMA_IN else "compute") for u in Unit],
    )  # fmt: skip


def records(
    weights: Array, bias: Sequence[int] | Array, multiplier: Sequence[int] | Array, shift: Sequence[int] | Array
) -> bytes:
    """Records of (channels, …) weights without gaps."""
    found = b""
    for k, row in enumerate(weights.reshape(len(weights), -1)):
        found += np.array([bias[k], multiplier[k], shift[k]], "<i4").tobytes() + row.astype(np.int8).tobytes()
    return found


# --- double buffering --------------------------------------------------------------------------

TILES, TILE = 6, 64


def double_buffered(*, depth: int = 2, free: bool = True) -> Program:
    """Negates `TILES` tiles of `TILE` bytes through rings of `depth` slots; without `free` the slots are overwritten
    too early, which is the race that the order of units must reveal."""
    slot = ((1, 0, 0, 0), TILE, depth)
    out = depth * TILE
    linear = ((1, 0, 0, 0), TILE)
    transfer = {"count3": TILE, "dram_stride3": 1, "sram_stride3": 1}
    load = instruction(Opcode.LOAD, {"dram_addr": linear, "sram_addr": slot}, dram_addr=0, sram_addr=0, **transfer)
    compute = instruction(
        Opcode.REQUANTISE, {"in_addr": slot, "out_addr": slot}, in_pitch_h=TILE, in_pitch_w=1, in_rows=1, in_cols=TILE,
        in_zp=1, out_addr=out, out_pitch_h=TILE, out_pitch_w=1, out_zp=3, row_count=1, col_count=TILE, chan_count=1,
    )  # fmt: skip
    store = instruction(
        Opcode.STORE, {"dram_addr": linear, "sram_addr": slot}, dram_addr=TILES * TILE, sram_addr=out, **transfer
    )
    acquire = [wait(1)] if free else []
    release = [signal(1)] if free else []
    queues = {
        Unit.DMA_IN: [loop(TILES), *acquire, load, signal(0), END],
        Unit.VECTOR: [signal(1, depth), loop(TILES), wait(0), wait(3), compute, signal(2), *release, END],
        Unit.DMA_OUT: [signal(3, depth), loop(TILES), wait(2), store, signal(3), END],
    }
    return program(
        queues, inputs=[Port("x", 0, (TILES, TILE), 1.0, 0)], outputs=[Port("y", TILES * TILE, (TILES, TILE), 1.0, 0)],
        dram_bytes=2 * TILES * TILE, sram_bytes=2 * out,
        marks=[Mark(unit, 0, "negate") for unit in Unit],
    )  # fmt: skip


# --- the meaning of opcodes, one element at a time ----------------------------------------------


def rescale(value: int, multiplier: int, shift: int) -> int:
    """TOSA 1.0 RESCALE with scale32 and single rounding, on Python integers."""
    return (value * multiplier + (1 << (shift - 1))) >> shift


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def each(shape: Shape, element: Callable[[int, int, int], int]) -> NDArray[np.int8]:
    """The map whose element (row, column, channel) is `element(row, column, channel)`."""
    return np.array(
        [[[element(r, c, k) for k in range(shape[2])] for c in range(shape[1])] for r in range(shape[0])], np.int8
    )


# --- random programs that are well formed, but seldom make sense -------------------------------


def random_program(rng: random.Random) -> Program:
    """Anything that `validate` accepts: loops, steps and arbitrary fields."""
    code = {unit: random_queue(rng, unit) for unit in Unit}
    constants = rng.randbytes(rng.randrange(40))
    marks: list[Mark] = []
    for unit in rng.sample(list(Unit), 4):
        at = sorted(rng.randint(0, len(code[unit])) for _ in range(rng.randrange(3)))
        marks += [Mark(unit, index, rng.choice(["conv1", "", 'a "b" ; \\', "größe\n\u2028"])) for index in at]
    port = Port(rng.choice(["x", "图像"]), len(constants), (3, 2), rng.random() + 1e-9, rng.randint(-128, 127))
    return program(
        code,
        constants=constants,
        inputs=[port],
        outputs=[port],
        dram_bytes=len(constants) + 6,
        sram_bytes=8,
        marks=marks,
    )


def random_queue(rng: random.Random, unit: Unit) -> tuple[Instruction, ...]:
    found: list[Instruction] = []
    depth = 0
    for _ in range(rng.randrange(8)):
        if depth < MAX_LOOPS and rng.random() < 0.5:
            found.append(loop(rng.randint(1, 5)))
            depth += 1
        elif depth and rng.random() < 0.5:
            found.append(END)
            depth -= 1
        opcode = rng.choice(sorted(UNIT_OPCODES[unit] - {Opcode.LOOP, Opcode.END}))
        found.append(_random_instruction(rng, opcode, depth))
    return (*found, *[END] * depth)


def _random_instruction(rng: random.Random, opcode: Opcode, depth: int) -> Instruction:
    if opcode in (Opcode.WAIT, Opcode.SIGNAL):
        return Instruction(opcode, (rng.randrange(SPEC.semaphores), rng.randint(0, 3)))
    values = [rng.choice([0, 1, _int32(rng)]) for _ in FIELDS[opcode]]
    types = rng.choice([*sorted(TYPES.get(opcode, ())), [rng.choice([0, 2, 5, -1]) for _ in TYPE_FIELDS[opcode]]])
    for position, kind in zip(TYPE_FIELDS[opcode], types, strict=True):
        values[position] = int(kind)
    chosen = [p for p in range(len(values)) if p not in TYPE_FIELDS[opcode]]
    steps = tuple(_random_step(rng, rng.choice(chosen), depth) for _ in range(rng.randrange(3)))
    return Instruction(opcode, tuple(values), steps)


def _random_step(rng: random.Random, position: int, depth: int) -> Step:
    a, b, c, d = (rng.choice([0, 1, _int32(rng)]) if level < depth else 0 for level in range(MAX_LOOPS))
    return Step(position, (a, b, c, d), _int32(rng), rng.choice([0, 2, abs(_int32(rng)) // 2]))


def _int32(rng: random.Random) -> int:
    return rng.choice([-(2**31), 2**31 - 1, rng.randint(-(2**31), 2**31 - 1)])


programs = st.builds(lambda seed: random_program(random.Random(seed)), st.integers(0, 2**32 - 1))
