"""Programs as text and back: one instruction per line, loops indented, nothing lost.

    engine {"name": "ne-256", ...}
    memory dram_bytes=4096 sram_bytes=2048
    input {"name": "x", ...}
    queue ARRAY
        mark 0 "conv1"
        LOOP count=3
            WAIT semaphore=1 count=1
            CONV in_addr=64 ... in_addr+=4096*((1*L0+3*L1)%2)
        END
    constants 128
        00ff...

Fields that are zero are left out. A step is `field+=increment*(Σ coefficient*Lk)`, its sum in `(...)%modulo`
where it has one. `mark` gives the number of the mark among all queues. `;` starts a comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import InputError, PackageError
from ..common.files import canonical_json, sha256
from .encoding import decode_port, port_dict
from .isa import FIELDS, ISA_VERSION, MAX_LOOPS, Instruction, Opcode, Step, Unit
from .program import Mark, Port, Program
from .spec import EngineSpec, spec_from_dict
from .validate import validate

_INDENT = "    "
_LINE_BYTES = 32
_ASSIGNMENT = re.compile(r"(\w+)=(-?\d{1,12})")
_STEP = re.compile(r"(\w+)\+=(-?\d{1,12})\*\((?:\(([^()]*)\)%(-?\d{1,12})|([^()]*))\)")
_CODE = re.compile(r'(?:[^";]|"(?:[^"\\]|\\.)*")*')
_TERM = re.compile(r"(-?\d{1,12})\*L(\d)")


def disassemble(program: Program, *, constants: bool = True, notes: Mapping[str, str] | None = None) -> str:
    """The whole program; without `constants` only their size and digest, for reading.

    `notes` are comments on marks, by label: what a subgraph was made from.
    """
    lines = [
        f"; instruction set {ISA_VERSION}",
        f"engine {canonical_json(program.spec.as_dict())}",
        f"memory dram_bytes={program.dram_bytes} sram_bytes={program.sram_bytes}",
        *(f"input {canonical_json(port_dict(port))}" for port in program.inputs),
        *(f"output {canonical_json(port_dict(port))}" for port in program.outputs),
    ]
    for unit in Unit:
        lines += [f"queue {unit.name}", *_queue_lines(program, unit, notes or {})]
    digest = "" if constants else f" sha256:{sha256(program.constants)}"
    lines.append(f"constants {len(program.constants)}{digest}")
    if constants:
        lines += _hex_lines(program.constants)
    return "\n".join(lines) + "\n"


def disassemble_instruction(instruction: Instruction) -> str:
    """One line without indentation, such as `LOOP count=3`."""
    names = FIELDS[instruction.opcode]
    words = [f"{name}={value}" for name, value in zip(names, instruction.fields, strict=True) if value]
    words += [f"{names[step.field]}+={_step_text(step)}" for step in instruction.steps]
    return " ".join((instruction.opcode.name, *words))


def _queue_lines(program: Program, unit: Unit, notes: Mapping[str, str]) -> Iterator[str]:
    marks = [(number, mark) for number, mark in enumerate(program.marks) if mark.unit is unit]
    depth = 1
    for index, instruction in enumerate(program.queues[unit]):
        while marks and marks[0][1].index == index:
            yield _mark_line(*marks.pop(0), notes)
        depth -= instruction.opcode is Opcode.END
        yield _INDENT * depth + disassemble_instruction(instruction)
        depth += instruction.opcode is Opcode.LOOP
    yield from (_mark_line(number, mark, notes) for number, mark in marks)


def _mark_line(number: int, mark: Mark, notes: Mapping[str, str]) -> str:
    note = f"  ; {json.dumps(notes[mark.label])[1:-1]}" if mark.label in notes else ""
    return f"{_INDENT}mark {number} {json.dumps(mark.label)}{note}"


def _step_text(step: Step) -> str:
    total = "+".join(f"{c}*L{level}" for level, c in enumerate(step.coefficients) if c) or "0"
    return f"{step.increment}*(({total})%{step.modulo})" if step.modulo else f"{step.increment}*({total})"


def _hex_lines(data: bytes) -> Iterator[str]:
    return (_INDENT + data[i : i + _LINE_BYTES].hex() for i in range(0, len(data), _LINE_BYTES))


def assemble(text: str) -> Program:
    """The program that `disassemble` wrote. Raises `PackageError` naming the line."""
    draft = _Draft()
    for number, line in enumerate(text.splitlines(), 1):
        code = _without_comment(line).strip()
        if not code:
            continue
        try:
            draft.read(code)
        except (InputError, ValueError, RecursionError) as error:
            what = error.what if isinstance(error, InputError) else str(error)
            raise PackageError(what, where=f"line {number}: {code[:80]}") from error
    program = draft.program()
    validate(program)
    return program


def assemble_instruction(text: str) -> Instruction:
    """The inverse of `disassemble_instruction`."""
    name, *words = text.split()
    if name not in Opcode.__members__:
        raise PackageError(f"unknown instruction {name!r}", hint=f"known: {', '.join(Opcode.__members__)}")
    opcode = Opcode[name]
    positions = {field_name: number for number, field_name in enumerate(FIELDS[opcode])}
    values = [0] * len(positions)
    steps: list[Step] = []
    for word in words:
        if assignment := _ASSIGNMENT.fullmatch(word):
            values[_position(opcode, positions, assignment[1])] = int(assignment[2])
        elif step := _STEP.fullmatch(word):
            steps.append(_parse_step(_position(opcode, positions, step[1]), step))
        else:
            raise PackageError(f"{word!r} is neither field=value nor field+=step")
    return Instruction(opcode, tuple(values), tuple(steps))


def _position(opcode: Opcode, positions: dict[str, int], name: str) -> int:
    if name not in positions:
        raise PackageError(f"{opcode.name} has no field {name!r}", hint=f"known: {', '.join(positions)}")
    return positions[name]


def _parse_step(position: int, match: re.Match[str]) -> Step:
    inner = match[3] if match[4] else match[5]
    coefficients = [0] * MAX_LOOPS
    for term in [] if inner == "0" else inner.split("+"):
        part = _TERM.fullmatch(term)
        if part is None or int(part[2]) >= MAX_LOOPS:
            raise PackageError(f"{term!r} is not coefficient*L0 .. coefficient*L{MAX_LOOPS - 1}")
        coefficients[int(part[2])] = int(part[1])
    a, b, c, d = coefficients
    return Step(position, (a, b, c, d), int(match[2]), int(match[4] or 0))


def _without_comment(line: str) -> str:
    """The line up to the first `;` outside of a JSON string."""
    code = _CODE.match(line)
    assert code is not None  # the pattern matches the empty string
    return code[0] if line[code.end() :].startswith(";") else line


@dataclass(slots=True)
class _Draft:
    """What was read so far."""

    spec: EngineSpec | None = None
    memory: dict[str, int] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    queues: dict[Unit, list[Instruction]] = field(default_factory=lambda: {unit: [] for unit in Unit})
    marks: dict[int, Mark] = field(default_factory=dict)
    constants: bytearray = field(default_factory=bytearray)
    constant_bytes: int = 0
    section: str = ""

    def read(self, code: str) -> None:
        """Takes one line without comment."""
        word, _, rest = code.partition(" ")
        if word in ("engine", "memory", "input", "output", "queue", "constants"):
            self._directive(word, rest)
        elif self.section == "constants":
            self.constants += bytes.fromhex(code)
        elif self.section not in Unit.__members__:
            raise PackageError("an instruction outside of a queue", hint="write `queue ARRAY` before it")
        elif word == "mark":
            number, _, label = rest.partition(" ")
            unit = Unit[self.section]
            if int(number) in self.marks:
                raise PackageError(f"mark {number} is given twice")
            self.marks[int(number)] = Mark(unit, len(self.queues[unit]), _text(json.loads(label)))
        else:
            self.queues[Unit[self.section]].append(assemble_instruction(code))

    def _directive(self, word: str, rest: str) -> None:
        if word == "engine":
            self.spec = spec_from_dict(_object(json.loads(rest)))
        elif word == "memory":
            self.memory = {m[1]: int(m[2]) for m in _ASSIGNMENT.finditer(rest)}
        elif word in ("input", "output"):
            (self.inputs if word == "input" else self.outputs).append(decode_port(json.loads(rest)))
        elif word == "queue":
            if rest not in Unit.__members__:
                raise PackageError(f"unknown unit {rest!r}", hint=f"known: {', '.join(Unit.__members__)}")
            self.section = rest
        else:
            if "sha256:" in rest:
                raise PackageError("this listing omits the constants", hint="disassemble with constants=True")
            self.section, self.constant_bytes = word, int(rest)

    def program(self) -> Program:
        """The program; `PackageError` when a part of it never came."""
        if self.spec is None or set(self.memory) != {"dram_bytes", "sram_bytes"}:
            raise PackageError("the listing lacks its engine or memory line")
        if len(self.constants) != self.constant_bytes:
            raise PackageError(f"the listing has {len(self.constants)} of {self.constant_bytes} bytes of constants")
        return Program(
            spec=self.spec,
            queues={unit: tuple(queue) for unit, queue in self.queues.items()},
            constants=bytes(self.constants),
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            marks=tuple(self.marks[number] for number in sorted(self.marks)),
            **self.memory,
        )


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PackageError("the engine line must hold a JSON object")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise PackageError(f"a label is text, got {value!r}")
    return value
