"""Program files, version 1: little endian, sections behind a table, everything under a CRC-32.

    offset  size  content
    0       4     magic "LFIT"
    4       2     ISA version
    6       2     number of sections
    8       4     total length of the file in bytes
    12      4     CRC-32 of everything from offset 16 on
    16      12×n  section table: id, offset, length (u32 each), contiguous and in the order of the ids
            …     sections: spec, memory, ports and marks as canonical JSON; one queue per unit; constants

An instruction is opcode u8, number of steps u8, u16 zero, its int32 fields, then 7 int32 per step
(field, four coefficients, increment, modulo).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from ..common.errors import InputError, PackageError
from ..common.files import canonical_json
from .isa import FIELDS, ISA_VERSION, Instruction, Opcode, Step, Unit
from .program import Mark, Port, Program
from .spec import EngineSpec, spec_from_dict
from .validate import validate

MAGIC = b"LFIT"
_HEADER = struct.Struct("<4sHHII")
_ENTRY = struct.Struct("<III")
_INSTRUCTION = struct.Struct("<BBH")
_STEP = struct.Struct("<7i")
_FIELD_STRUCTS = {opcode: struct.Struct(f"<{len(names)}i") for opcode, names in FIELDS.items()}
_OPCODES = {int(opcode): opcode for opcode in Opcode}
_SPEC, _MEMORY, _PORTS, _MARKS, _QUEUES, _CONSTANTS = 1, 2, 3, 4, 16, 32
_IDS = (_SPEC, _MEMORY, _PORTS, _MARKS, *(_QUEUES + unit for unit in Unit), _CONSTANTS)
SECTIONS = ("spec", "memory", "ports", "marks", *(f"queue {unit.name}" for unit in Unit), "constants")
_PORT_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,), "address": (int,), "shape": (list,), "scale": (int, float), "zero_point": (int,), "dtype": (str,),
    "memory": (str,),
}  # fmt: skip


def encode(program: Program) -> bytes:
    """The file of a program; equal programs give equal bytes. Raises `PackageError` on a malformed program."""
    validate(program)
    return join_sections(encode_sections(program))


def encode_sections(program: Program) -> dict[str, bytes]:
    """The sections of a program's file by name; `PackageError` when it holds a value that no file can."""
    try:
        sections = (
            canonical_json(program.spec.as_dict()).encode(),
            canonical_json({"dram_bytes": program.dram_bytes, "sram_bytes": program.sram_bytes}).encode(),
            canonical_json({"inputs": _ports(program.inputs), "outputs": _ports(program.outputs)}).encode(),
            canonical_json([[int(m.unit), m.index, m.label] for m in program.marks]).encode(),
            *(b"".join(map(_encode_instruction, program.queues[unit])) for unit in Unit),
            program.constants,
        )
    except (struct.error, TypeError, ValueError) as error:
        raise PackageError(f"the program holds a value that its file cannot: {error}") from error
    return dict(zip(SECTIONS, sections, strict=True))


def join_sections(sections: Mapping[str, bytes]) -> bytes:
    """A program file of these sections, in the order of `SECTIONS`; what is in them is not checked."""
    offset = _HEADER.size + len(SECTIONS) * _ENTRY.size
    table = b""
    for number, name in zip(_IDS, SECTIONS, strict=True):
        table += _ENTRY.pack(number, offset, len(sections[name]))
        offset += len(sections[name])
    body = b"".join((table, *(sections[name] for name in SECTIONS)))
    return _HEADER.pack(MAGIC, ISA_VERSION, len(SECTIONS), offset, zlib.crc32(body)) + body


def decode(data: bytes) -> Program:
    """The program in a file. Raises `PackageError` when the file is damaged, foreign or malformed."""
    sections = split_sections(data)
    spec = _decode_spec(sections["spec"])
    memory = _json(sections["memory"], dict, "memory")
    ports = _json(sections["ports"], dict, "ports")
    if set(memory) != {"dram_bytes", "sram_bytes"} or not all(type(v) is int for v in memory.values()):
        raise PackageError("the memory section must hold the integers dram_bytes and sram_bytes")
    if set(ports) != {"inputs", "outputs"}:
        raise PackageError("the port section must hold inputs and outputs")
    program = Program(
        spec=spec,
        queues={unit: _decode_queue(unit, sections[f"queue {unit.name}"]) for unit in Unit},
        constants=sections["constants"],
        inputs=_decode_ports(ports["inputs"]),
        outputs=_decode_ports(ports["outputs"]),
        marks=_decode_marks(sections["marks"]),
        **memory,
    )
    validate(program)
    return program


@lru_cache(maxsize=64)
def _decode_spec(data: bytes) -> EngineSpec:
    """Kept, since most files that a process reads are for a few engines; a spec is immutable."""
    try:
        return spec_from_dict(_json(data, dict, "spec"))
    except InputError as error:
        raise PackageError(f"the engine description is not valid: {error.what}") from error


def split_sections(data: bytes) -> dict[str, bytes]:
    """The sections of a program file by name; `PackageError` when header, checksum or table are wrong."""
    if len(data) < _HEADER.size:
        raise PackageError(f"the program file is truncated: {len(data)} bytes")
    magic, version, count, length, crc = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise PackageError(f"not a program file: it starts with {magic!r} and not with {MAGIC!r}")
    if version != ISA_VERSION:
        hint = "compile the network again"
        raise PackageError(f"instruction set version {version}, this is version {ISA_VERSION}", hint=hint)
    if length != len(data):
        raise PackageError(f"the program file is truncated or padded: {len(data)} of {length} bytes")
    if zlib.crc32(memoryview(data)[_HEADER.size :]) != crc:
        raise PackageError("the program file is damaged: its checksum does not match")
    if count != len(_IDS) or len(data) < _HEADER.size + count * _ENTRY.size:
        raise PackageError(f"the program file has {count} sections, expected {len(_IDS)}")
    return _split(data, count)


def _split(data: bytes, count: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    position = _HEADER.size + count * _ENTRY.size
    for number, expected in enumerate(_IDS):
        kind, offset, size = _ENTRY.unpack_from(data, _HEADER.size + number * _ENTRY.size)
        if kind != expected or offset != position or position + size > len(data):
            raise PackageError(
                f"entry {number} of the section table is wrong: section {kind} at {offset}, {size} bytes"
            )
        found[SECTIONS[number]] = data[offset : offset + size]
        position += size
    if position != len(data):
        raise PackageError(f"{len(data) - position} bytes lie behind the last section")
    return found


def _encode_instruction(instruction: Instruction) -> bytes:
    head = _INSTRUCTION.pack(instruction.opcode, len(instruction.steps), 0)
    steps = [_STEP.pack(s.field, *s.coefficients, s.increment, s.modulo) for s in instruction.steps]
    return b"".join((head, _FIELD_STRUCTS[instruction.opcode].pack(*instruction.fields), *steps))


def _decode_queue(unit: Unit, code: bytes) -> tuple[Instruction, ...]:
    found: list[Instruction] = []
    position = 0
    try:
        while position < len(code):
            number, steps, zero = _INSTRUCTION.unpack_from(code, position)
            opcode = _OPCODES.get(number)
            if opcode is None or zero:
                raise PackageError(f"unknown opcode {number}", where=f"{unit.name} instruction {len(found)}")
            packer = _FIELD_STRUCTS[opcode]
            fields = packer.unpack_from(code, position + _INSTRUCTION.size)
            position += _INSTRUCTION.size + packer.size
            found.append(Instruction(opcode, fields, _decode_steps(code, position, steps)))
            position += steps * _STEP.size
    except struct.error as error:
        raise PackageError(
            "the queue ends inside an instruction", where=f"{unit.name} instruction {len(found)}"
        ) from error
    return tuple(found)


def _decode_steps(code: bytes, position: int, count: int) -> tuple[Step, ...]:
    records = (_STEP.unpack_from(code, position + number * _STEP.size) for number in range(count))
    return tuple(Step(field, (a, b, c, d), increment, modulo) for field, a, b, c, d, increment, modulo in records)


def _json(data: bytes, kind: type, section: str) -> Any:
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise PackageError(f"the {section} section is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise PackageError(f"the {section} section must be a JSON {'object' if kind is dict else 'list'}")
    return value


def port_dict(port: Port) -> dict[str, Any]:
    """The JSON form of a port."""
    return {**{name: getattr(port, name) for name in _PORT_TYPES}, "scale": float(port.scale)}


def _ports(ports: tuple[Port, ...]) -> list[dict[str, Any]]:
    return [port_dict(port) for port in ports]


def _decode_ports(values: Any) -> tuple[Port, ...]:
    if not isinstance(values, list):
        raise PackageError("ports must be a list")
    return tuple(decode_port(value) for value in values)


def decode_port(value: Any) -> Port:
    """The inverse of `port_dict`; anything else is a `PackageError`."""
    if not isinstance(value, dict) or set(value) != set(_PORT_TYPES):
        raise PackageError(f"a port has the keys {', '.join(_PORT_TYPES)}")
    for name, kinds in _PORT_TYPES.items():
        if type(value[name]) not in kinds:
            raise PackageError(f"{name} of a port must be {kinds[0].__name__}, got {value[name]!r}")
    if not all(type(extent) is int for extent in value["shape"]):
        raise PackageError(f"the shape of a port holds integers, got {value['shape']}")
    try:
        return Port(**{**value, "shape": tuple(value["shape"]), "scale": float(value["scale"])})
    except OverflowError as error:
        raise PackageError(f"the scale of a port is too large: {error}") from error


def _decode_marks(data: bytes) -> tuple[Mark, ...]:
    found: list[Mark] = []
    for value in _json(data, list, "marks"):
        if (
            not isinstance(value, list)
            or [type(part) for part in value] != [int, int, str]
            or value[0] not in tuple(Unit)
        ):
            raise PackageError(f"a mark is [unit, index, label], got {value!r}")
        unit, index, label = cast("tuple[int, int, str]", value)
        found.append(Mark(Unit(unit), index, label))
    return tuple(found)
