"""Programs for each data opcode, from the names of its fields alone: new opcodes are there without being told.

LOAD constants → SRAM, LOAD the input → SRAM, the instruction over a map of 3 × 3 × 4, STORE its output
"""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from lanefit.targets.isa import (
    CONTROL,
    FIELDS,
    NO_LIMIT,
    TYPE_FIELDS,
    UNIT_OPCODES,
    DType,
    Instruction,
    Opcode,
    Unit,
)
from lanefit.targets.program import Mark, Port, Program
from lanefit.targets.ranges import NO_CLAMP, TYPES, legal_range
from lanefit.targets.spec import load_spec
from lanefit.targets.table_float import TABLE_SIDE, FloatTable

_ROWS, _COLS, _CHANNELS = 3, 3, 4
_INPUT_BYTES, _OUTPUT_BYTES = 512, 256
_RECORDS = 128
_RECORD = struct.pack("<iii", 0, 2**30, 30)  # bias, multiplier and shift of a RESCALE by one; as tables anything
_WEIGHTS = {DType.INT16: struct.pack("<qhh", 0, 2**14, 14), DType.BF16: bytes(12)}  # records of CONV by input type
_FLOAT_TABLE = FloatTable(112, np.zeros((3, 2), np.float32), np.ones(2 * TABLE_SIDE, np.float32)).as_bytes()
_SRAM = {"in_addr": 0, "b_addr": 256, "out_addr": 512}  # whatever else has an address lies in the constants
_CONSTANTS_AT = 768
_FLOAT_ONE = 0x3F800000
_VALUES = {
    "in_rows": _ROWS, "in_cols": _COLS, "row_count": _ROWS, "col_count": _COLS, "chan_count": _CHANNELS,
    "channels_in": 1, "group": 1, "record_pitch": 24, "bias_addr": -1, "mode": 0,
}  # fmt: skip
_PITCHES = {  # in elements
    "_pitch_h": _COLS * _CHANNELS, "_pitch_w": _CHANNELS, "_pitch_m": _CHANNELS, "_pitch_n": _CHANNELS,
    "_pitch_k": 1, "_pitch_g0": 4 * _CHANNELS, "_pitch_g1": 4 * _CHANNELS,
}  # fmt: skip
Types = dict[str, DType]


def lone_programs() -> tuple[Program, ...]:
    """For every opcode that is not control, one for each choice of its element types."""
    return tuple(
        _program(unit, opcode, types)
        for unit in Unit
        for opcode in sorted(UNIT_OPCODES[unit] - CONTROL)
        for types in _choices(opcode)
    )


def _choices(opcode: Opcode) -> list[Types]:
    names = [FIELDS[opcode][position] for position in TYPE_FIELDS[opcode]]
    return [dict(zip(names, types, strict=True)) for types in sorted(TYPES.get(opcode, {()}))]


def _program(unit: Unit, opcode: Opcode, types: Types) -> Program:
    own = _WEIGHTS if "weights_addr" in FIELDS[opcode] else {}
    constants = own.get(types.get("in_type", DType.INT8), _RECORD) * _RECORDS
    if opcode is Opcode.TABLE and types["in_type"] is DType.BF16:
        constants = _FLOAT_TABLE
    data = len(constants)
    loads = [_move(Opcode.LOAD, 0, _CONSTANTS_AT, data), _move(Opcode.LOAD, data, 0, _INPUT_BYTES)]
    if opcode is Opcode.LOAD_SPARSE:  # a mask of one byte, and no more than eight bytes behind it
        loads.append(Instruction(opcode, (0, _CONSTANTS_AT, 8, data)))
    store = _move(Opcode.STORE, data + _INPUT_BYTES, _SRAM["out_addr"], _OUTPUT_BYTES)
    queues: dict[Unit, tuple[Instruction, ...]] = {
        Unit.DMA_IN: (*loads, _sync(Opcode.SIGNAL, 0)),
        Unit.ARRAY: (),
        Unit.VECTOR: (),
        Unit.DMA_OUT: (_sync(Opcode.WAIT, 1), store),
    }
    middle = unit if unit in (Unit.ARRAY, Unit.VECTOR) else Unit.VECTOR
    fields = tuple(_value(name, opcode, types) for name in FIELDS[opcode])
    work = (Instruction(opcode, fields),) if unit is middle else ()
    queues[middle] = (_sync(Opcode.WAIT, 0), *work, _sync(Opcode.SIGNAL, 1))
    return Program(
        spec=replace(load_spec("ne-64"), weight_decoder=opcode is Opcode.LOAD_SPARSE),
        queues=queues,
        constants=constants,
        dram_bytes=data + _INPUT_BYTES + _OUTPUT_BYTES,
        sram_bytes=_CONSTANTS_AT + data,
        inputs=(Port("x", data, (_INPUT_BYTES,), 1.0, 0),),
        outputs=(Port("y", data + _INPUT_BYTES, (_OUTPUT_BYTES,), 1.0, 0),),
        marks=(Mark(middle, 0, " ".join((opcode.name, *(found.name for found in types.values())))),),
    )


def _sync(opcode: Opcode, semaphore: int) -> Instruction:
    return Instruction(opcode, (semaphore, 1))


def _move(opcode: Opcode, dram_addr: int, sram_addr: int, size: int) -> Instruction:
    """A transfer of `size` contiguous bytes."""
    given = {"dram_addr": dram_addr, "sram_addr": sram_addr, "count3": size, "dram_stride3": 1, "sram_stride3": 1}
    counts = {"count0": 1, "count1": 1, "count2": 1}
    names = FIELDS[opcode]
    return Instruction(opcode, tuple({**counts, **given}.get(name, _value(name, opcode, {})) for name in names))


def _value(name: str, opcode: Opcode, types: Types) -> int:
    """A value for a field that fits the map and the layout, or the smallest legal one that is not negative."""
    if name in types:
        return types[name]
    if name in _VALUES:
        return _VALUES[name]
    if name.endswith("_addr"):
        return _SRAM.get(name, _CONSTANTS_AT)
    if "limit" in name:
        return NO_LIMIT
    if name.endswith(("_min", "_max")):
        return NO_CLAMP[types["out_type"]][name.endswith("_max")]
    if name.endswith(("multiplier", "shift")):
        return _scale(opcode, types)[name.endswith("shift")]
    for ending, elements in _PITCHES.items():
        if name.endswith(ending):
            return elements * types.get(name.replace(ending, "_type"), DType.INT8).bytes
    low, _ = legal_range(name) or (0, 0)
    return max(low, int(name.endswith("_count")))


def _scale(opcode: Opcode, types: Types) -> tuple[int, int]:
    """Multiplier and shift of a scale of one, as this opcode has them for these types."""
    if DType.BF16 in types.values():
        return _FLOAT_ONE, 30
    narrow = opcode in (Opcode.MATMUL, Opcode.RESIZE) and types["in_type"] is DType.INT16
    return (2**14, 14) if narrow else (2**30, 30)
