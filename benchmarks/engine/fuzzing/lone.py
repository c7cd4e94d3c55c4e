"""A program for each data opcode, from the names of its fields alone: new opcodes are there without being told.

LOAD constants → SRAM, LOAD the input → SRAM, the instruction over a map of 3 × 3 × 4, STORE its output
"""

from __future__ import annotations

import struct

from lanefit.targets.isa import CONTROL, FIELDS, NO_LIMIT, UNIT_OPCODES, Instruction, Opcode, Unit
from lanefit.targets.program import Mark, Port, Program
from lanefit.targets.ranges import legal_range
from lanefit.targets.spec import load_spec

_ROWS, _COLS, _CHANNELS = 3, 3, 4
_INPUT_BYTES, _OUTPUT_BYTES, _RECORDS = 512, 256, 128
_RECORD = struct.pack("<iii", 0, 2**30, 30)  # bias, multiplier and shift: RESCALE by one; as weights or tables anything
_CONSTANTS = _RECORD * _RECORDS
_SRAM = {"in_addr": 0, "b_addr": 256, "out_addr": 512}  # whatever else has an address lies in the constants
_CONSTANTS_AT = 768
_VALUES = {
    "in_rows": _ROWS, "in_cols": _COLS, "row_count": _ROWS, "col_count": _COLS, "chan_count": _CHANNELS,
    "channels_in": 1, "group": 1, "record_pitch": 2 * len(_RECORD), "bias_addr": -1, "shift": 30, "mode": 0,
    "act_min": -128, "act_max": 127, "conv_min": -128, "conv_max": 127,
}  # fmt: skip
_ENDINGS = {
    "_pitch_h": _COLS * _CHANNELS, "_pitch_w": _CHANNELS, "_pitch_m": _CHANNELS, "_pitch_n": _CHANNELS, "_pitch_k": 1,
    "_pitch_g0": 16, "_pitch_g1": 16, "multiplier": 2**30, "_shift": 30, "_count": 1,
}  # fmt: skip


def lone_programs() -> tuple[Program, ...]:
    """One for every opcode that is not control, in the order of units and opcodes."""
    return tuple(_program(unit, opcode) for unit in Unit for opcode in sorted(UNIT_OPCODES[unit] - CONTROL))


def _program(unit: Unit, opcode: Opcode) -> Program:
    data = len(_CONSTANTS)
    loads = [_move(Opcode.LOAD, 0, _CONSTANTS_AT, data), _move(Opcode.LOAD, data, 0, _INPUT_BYTES)]
    store = _move(Opcode.STORE, data + _INPUT_BYTES, _SRAM["out_addr"], _OUTPUT_BYTES)
    queues: dict[Unit, tuple[Instruction, ...]] = {
        Unit.DMA_IN: (*loads, _sync(Opcode.SIGNAL, 0)),
        Unit.ARRAY: (),
        Unit.VECTOR: (),
        Unit.DMA_OUT: (_sync(Opcode.WAIT, 1), store),
    }
    middle = unit if unit in (Unit.ARRAY, Unit.VECTOR) else Unit.VECTOR
    work = () if unit is not middle else (Instruction(opcode, tuple(map(_value, FIELDS[opcode]))),)
    queues[middle] = (_sync(Opcode.WAIT, 0), *work, _sync(Opcode.SIGNAL, 1))
    return Program(
        spec=load_spec("ne-64"),
        queues=queues,
        constants=_CONSTANTS,
        dram_bytes=data + _INPUT_BYTES + _OUTPUT_BYTES,
        sram_bytes=_CONSTANTS_AT + data,
        inputs=(Port("x", data, (_INPUT_BYTES,), 1.0, 0),),
        outputs=(Port("y", data + _INPUT_BYTES, (_OUTPUT_BYTES,), 1.0, 0),),
        marks=(Mark(middle, 0, opcode.name.lower()),),
    )


def _sync(opcode: Opcode, semaphore: int) -> Instruction:
    return Instruction(opcode, (semaphore, 1))


def _move(opcode: Opcode, dram_addr: int, sram_addr: int, size: int) -> Instruction:
    """A transfer of `size` contiguous bytes."""
    given = {"dram_addr": dram_addr, "sram_addr": sram_addr, "count3": size, "dram_stride3": 1, "sram_stride3": 1}
    counts = {"count0": 1, "count1": 1, "count2": 1}
    names = FIELDS[opcode]
    return Instruction(opcode, tuple({**counts, **given}.get(name, _value(name)) for name in names))


def _value(name: str) -> int:
    """A value for a field that fits the map and the layout, or the smallest legal one that is not negative."""
    if name in _VALUES:
        return _VALUES[name]
    if name.endswith("_addr"):
        return _SRAM.get(name, _CONSTANTS_AT)
    if "limit" in name:
        return NO_LIMIT
    for ending, value in _ENDINGS.items():
        if name.endswith(ending):
            return value
    low, _ = legal_range(name) or (0, 0)
    return max(0, low)
