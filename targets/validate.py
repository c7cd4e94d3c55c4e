"""The structure that every program must have before anything encodes, executes or times it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from ..common.errors import PackageError
from .budget import UNLIMITED
from .isa import FIELDS, MAX_LOOPS, TYPE_FIELDS, UNIT_OPCODES, Instruction, Opcode, Step, Unit
from .program import PORT_TYPES, Mark, Port, Program

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
MAX_DYNAMIC_INSTRUCTIONS = UNLIMITED.instructions  # LOOP and END count too, so that no program runs for ever
MAX_DRAM_BYTES = 2**31  # what a signed 32-bit address reaches
MAX_SRAM_BYTES = 2**30
MAX_STEPS = 255
_PORT_MEMORIES = ("dram", "sram")
_FIELD_COUNT = {opcode: len(names) for opcode, names in FIELDS.items()}
_SYNC = frozenset({Opcode.WAIT, Opcode.SIGNAL})


def validate(program: Program) -> int:
    """Returns how many instructions the program executes, LOOP and END included.

    Raises `PackageError`, naming the queue and the instruction, when the program is not well formed.

    Fields that depend on loop counters, and addresses, are checked where they are used: by the emulator.
    """
    _check_memory(program)
    missing = [unit.name for unit in Unit if unit not in program.queues]
    if missing or len(program.queues) != len(Unit):
        raise PackageError(f"a program has one queue for each of the {len(Unit)} units, missing: {', '.join(missing)}")
    if not program.spec.weight_decoder and any(i.opcode is Opcode.LOAD_SPARSE for i in program.queues[Unit.DMA_IN]):
        raise PackageError(f"LOAD_SPARSE needs a weight decoder, which {program.spec.name} lacks")
    total = sum(check_queue(unit, program.queues[unit], program.spec.semaphores) for unit in Unit)
    if total > MAX_DYNAMIC_INSTRUCTIONS:
        raise PackageError(
            f"the program would execute {total} instructions, more than {MAX_DYNAMIC_INSTRUCTIONS}",
            hint="lower the loop counts",
        )
    _check_ports(program, program.inputs, "input")
    _check_ports(program, program.outputs, "output")
    _check_marks(program)
    return total


def check_queue(unit: Unit, queue: tuple[Instruction, ...], semaphores: int) -> int:
    """Checks one queue; returns how many instructions it executes, LOOP and END included."""
    allowed = UNIT_OPCODES[unit]
    factors = [1]  # how often the code at each open loop depth executes
    total = 0
    for index, instruction in enumerate(queue):
        opcode, fields = instruction.opcode, instruction.fields
        if opcode not in allowed:
            raise _problem(unit, index, f"{_name(opcode)} cannot run on {unit.name}")
        if len(fields) != _FIELD_COUNT[opcode]:
            raise _problem(unit, index, f"{opcode.name} has {_FIELD_COUNT[opcode]} fields, got {len(fields)}")
        if fields and (min(fields) < INT32_MIN or max(fields) > INT32_MAX):
            raise _problem(unit, index, f"a field of {opcode.name} does not fit 32 bits: {min(fields)}..{max(fields)}")
        if instruction.steps:
            _check_steps(unit, index, instruction, len(factors) - 1)
        total += factors[-1]
        if opcode is Opcode.LOOP:
            _open_loop(unit, index, instruction, factors)
        elif opcode is Opcode.END:
            if len(factors) == 1:
                raise _problem(unit, index, "END without LOOP")
            factors.pop()
        elif opcode in _SYNC and not instruction.steps:
            _check_semaphore(unit, index, fields, semaphores)
    if len(factors) > 1:
        raise _problem(unit, len(queue), f"{len(factors) - 1} LOOP without END")
    return total


def _open_loop(unit: Unit, index: int, instruction: Instruction, factors: list[int]) -> None:
    count = instruction.fields[0]
    if count < 1:
        raise _problem(unit, index, f"LOOP count must be at least 1, got {count}")
    if instruction.steps:
        raise _problem(unit, index, "the count of a LOOP cannot depend on other loops")
    if len(factors) > MAX_LOOPS:
        raise _problem(unit, index, f"loops nest deeper than {MAX_LOOPS}")
    factors.append(factors[-1] * count)


def _check_semaphore(unit: Unit, index: int, fields: tuple[int, ...], semaphores: int) -> None:
    semaphore, count = fields
    if not 0 <= semaphore < semaphores:
        raise _problem(unit, index, f"semaphore {semaphore} does not exist, the engine has {semaphores}")
    if count < 0:
        raise _problem(unit, index, f"a semaphore cannot count by {count}")


def _check_steps(unit: Unit, index: int, instruction: Instruction, depth: int) -> None:
    if len(instruction.steps) > MAX_STEPS:
        raise _problem(unit, index, f"an instruction has at most {MAX_STEPS} steps, got {len(instruction.steps)}")
    for step in instruction.steps:
        if not 0 <= step.field < len(instruction.fields):
            raise _problem(unit, index, f"a step refers to field {step.field} that {instruction.opcode.name} lacks")
        if step.field in TYPE_FIELDS[instruction.opcode]:
            raise _problem(unit, index, "an element type cannot depend on loop counters")
        _check_step(unit, index, step, depth)


def _check_step(unit: Unit, index: int, step: Step, depth: int) -> None:
    if len(step.coefficients) != MAX_LOOPS:
        raise _problem(unit, index, f"a step has {MAX_LOOPS} coefficients, got {len(step.coefficients)}")
    if any(step.coefficients[depth:]):
        raise _problem(unit, index, f"a step refers to a loop deeper than the {depth} around the instruction")
    if step.modulo < 0:
        raise _problem(unit, index, f"the modulo of a step must not be negative, got {step.modulo}")
    values = (*step.coefficients, step.increment, step.modulo)
    if min(values) < INT32_MIN or max(values) > INT32_MAX:
        raise _problem(unit, index, "a step does not fit 32 bits")


def _check_memory(program: Program) -> None:
    spec = program.spec
    if not 0 <= program.dram_bytes <= MAX_DRAM_BYTES:
        raise PackageError(f"dram_bytes {program.dram_bytes} are outside of 0..{MAX_DRAM_BYTES}")
    if len(program.constants) > program.dram_bytes:
        raise PackageError(f"{len(program.constants)} bytes of constants exceed dram_bytes {program.dram_bytes}")
    if not 0 <= program.sram_bytes <= min(spec.sram_bytes, MAX_SRAM_BYTES):
        limit = min(spec.sram_bytes, MAX_SRAM_BYTES)
        raise PackageError(f"sram_bytes {program.sram_bytes} are outside of 0..{limit}, the SRAM of {spec.name}")


def _check_ports(program: Program, ports: tuple[Port, ...], kind: str) -> None:
    names = [port.name for port in ports]
    if len(set(names)) != len(names):
        raise PackageError(f"two {kind}s have one name: {', '.join(sorted(names))}")
    for port in ports:
        _check_port(program, port, f"{kind} {port.name!r}")
    if kind == "input":
        for memory in _PORT_MEMORIES:
            own = [port for port in ports if port.memory == memory]
            _check_disjoint(sorted(own, key=lambda port: port.address))


def _check_port(program: Program, port: Port, where: str) -> None:
    if not port.name:
        raise PackageError("a port needs a name", where=where)
    if not port.shape or min(port.shape) < 1:
        raise PackageError(f"the shape of a port has positive extents, got {port.shape}", where=where)
    if port.dtype not in PORT_TYPES:
        raise PackageError(f"unknown element type {port.dtype!r}", where=where, hint=f"known: {', '.join(PORT_TYPES)}")
    if port.memory not in _PORT_MEMORIES:
        raise PackageError(f"a port lies in {' or '.join(_PORT_MEMORIES)}, got {port.memory!r}", where=where)
    in_dram = port.memory == "dram"
    low, high = (len(program.constants), program.dram_bytes) if in_dram else (0, program.sram_bytes)
    last = port.address + port.size_bytes
    if not low <= port.address <= last <= high:
        free = "free DRAM" if in_dram else "SRAM"
        raise PackageError(f"bytes {port.address}..{last} lie outside of the {free} {low}..{high}", where=where)
    if not (math.isfinite(port.scale) and port.scale > 0):
        raise PackageError(f"the scale must be positive and finite, got {port.scale}", where=where)
    if not -128 <= port.zero_point <= 127:
        raise PackageError(f"the zero point must be an int8, got {port.zero_point}", where=where)
    if port.dtype != "int8" and port.zero_point:
        raise PackageError(f"{port.dtype} has the zero point 0, got {port.zero_point}", where=where)
    if port.dtype == "bf16" and port.scale != 1:
        raise PackageError(f"bf16 has the scale 1, got {port.scale}", where=where)


def _check_disjoint(ports: list[Port]) -> None:
    for port, following in pairwise(ports):
        if port.address + port.size_bytes > following.address:
            raise PackageError(f"inputs {port.name!r} and {following.name!r} overlap in {port.memory.upper()}")


def _check_marks(program: Program) -> None:
    last = dict.fromkeys(Unit, 0)
    for mark in program.marks:
        if mark.unit not in program.queues or not last[mark.unit] <= mark.index <= len(program.queues[mark.unit]):
            raise PackageError(
                f"mark {mark.label!r} points outside of its queue or before an earlier one, at {mark.index}"
            )
        last[mark.unit] = mark.index


def labels(marks: Iterable[Mark], unit: Unit, length: int) -> list[str]:
    """The label of every instruction of one queue of `length`; code before the first mark belongs to that mark."""
    own = [mark for mark in marks if mark.unit is unit]
    if not own:
        return [""] * length
    found: list[str] = []
    for mark, following in pairwise(own):
        found += [mark.label] * (following.index - len(found))
    return found + [own[-1].label] * (length - len(found))


def _name(opcode: int) -> str:
    return opcode.name if isinstance(opcode, Opcode) else f"opcode {opcode}"


def _problem(unit: Unit, index: int, what: str) -> PackageError:
    return PackageError(what, where=f"{unit.name} instruction {index}")
