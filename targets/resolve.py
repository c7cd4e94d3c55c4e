"""Which instructions a queue executes, and with which field values. Shared by emulator and timing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..common.errors import ProgramFault
from .isa import FIELDS, MAX_LOOPS, Instruction, Opcode, Step
from .validate import INT32_MAX, INT32_MIN

POSITION: dict[Opcode, dict[str, int]] = {
    opcode: {name: number for number, name in enumerate(names)} for opcode, names in FIELDS.items()
}


def walk(queue: Sequence[Instruction]) -> Iterator[tuple[int, list[int]]]:
    """The indices of the executed instructions in order, loops unrolled, with the four loop counters.

    LOOP and END are not reported. The list of counters is reused: read it before the next step.
    The queue must have passed `validate`.
    """
    opcodes = [instruction.opcode for instruction in queue]
    counters, starts, counts = [0] * MAX_LOOPS, [0] * MAX_LOOPS, [0] * MAX_LOOPS
    depth, index, length = -1, 0, len(queue)
    while index < length:
        opcode = opcodes[index]
        if opcode is Opcode.LOOP:
            depth += 1
            starts[depth], counts[depth] = index, queue[index].fields[0]
        elif opcode is Opcode.END:
            counters[depth] += 1
            if counters[depth] < counts[depth]:
                index = starts[depth]
            else:
                counters[depth] = 0
                depth -= 1
        else:
            yield index, counters
        index += 1


def offset(step: Step, counters: Sequence[int]) -> int:
    """What a step adds to its field; see the docstring of `isa`."""
    a, b, c, d = step.coefficients
    total = a * counters[0] + b * counters[1] + c * counters[2] + d * counters[3]
    return step.increment * (total % step.modulo if step.modulo else total)


def field_values(
    instruction: Instruction, counters: Sequence[int], steps: Iterable[Step] | None = None
) -> Sequence[int]:
    """The fields at these loop counters, with all steps or only `steps` applied; `ProgramFault` beyond 32 bits."""
    chosen = instruction.steps if steps is None else steps
    if not chosen:
        return instruction.fields
    values = list(instruction.fields)
    for step in chosen:
        values[step.field] += offset(step, counters)
    for step in chosen:
        if not INT32_MIN <= values[step.field] <= INT32_MAX:
            name = FIELDS[instruction.opcode][step.field]
            raise ProgramFault(f"field {name} reaches {values[step.field]}, which does not fit 32 bits")
    return values


def clipped(start: int, count: int, limit: int) -> int:
    """Number of rows or channels that a compute instruction covers."""
    rest = limit - start
    return (count if count < rest else rest) if rest > 0 else 0


def transfer_range(count: int, origin: int, limit: int) -> tuple[int, int]:
    """First index and number of indices of a DMA dimension that are not clipped."""
    first = max(0, -origin)
    return first, max(0, min(count, limit - origin) - first)
