"""Mutations of program files: raw bytes, sections, instructions, fields, steps, ports, marks and engine descriptions.

All but the rawest end with a right table and checksum, so that what they change reaches the code behind these.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from lanefit.targets.encoding import SECTIONS, join_sections, split_sections
from lanefit.targets.isa import FIELDS, MAX_LOOPS, UNIT_OPCODES, Opcode, Unit

from .values import INTEGERS, changed_json, field_integer, flipped, integer, wrapped

_HEAD = struct.Struct("<BBH")
_STEP_BYTES = 28
_BODY_OFFSET = 16  # the checksum, at offset 12, covers what follows from here
_JSON_SECTIONS = ("spec", "memory", "memory", "ports", "ports", "marks")
_QUEUE_NAMES = {unit: f"queue {unit.name}" for unit in Unit}
_EXTENTS = ("_count", "_rows", "_cols", "kernel_h", "kernel_w", "channels_in", "group", "scale_h_d", "scale_w_d")
Code = list[bytes]  # one queue, an item for each instruction


class Draft:
    """A program file taken apart: the queues as lists of encoded instructions, other sections as bytes."""

    def __init__(self, data: bytes) -> None:
        self.sections = split_sections(data)
        self.code = {unit: _instructions(self.sections[_QUEUE_NAMES[unit]]) for unit in Unit}

    def copy(self) -> Draft:
        found = object.__new__(Draft)
        found.sections = dict(self.sections)
        found.code = {unit: list(code) for unit, code in self.code.items()}
        return found

    def file(self) -> bytes:
        queues = {_QUEUE_NAMES[unit]: b"".join(code) for unit, code in self.code.items()}
        return join_sections({**self.sections, **queues})


def mutant(rng: random.Random, drafts: Sequence[Draft]) -> bytes:
    """A damaged program file made from one or two of the `drafts`."""
    draft = rng.choice(drafts).copy()
    if rng.random() < 0.05:
        return flipped(rng, draft.file())
    for _ in range(_repetitions(rng)):
        rng.choices(_MUTATIONS, _WEIGHTS)[0](rng, draft, drafts)
    data = draft.file()
    return _tampered(rng, data) if rng.random() < 0.05 else data


def _repetitions(rng: random.Random) -> int:
    count = 1
    while count < 6 and rng.random() < 0.35:
        count += 1
    return count


def _tampered(rng: random.Random, data: bytes) -> bytes:
    """Header or section table changed, and a checksum that fits."""
    found = bytearray(data)
    at = 4 * rng.randrange(1, _BODY_OFFSET // 4 + 3 * len(SECTIONS))
    value = struct.unpack_from("<i", found, at)[0]
    struct.pack_into("<i", found, at, integer(rng, value))
    struct.pack_into("<I", found, 12, zlib.crc32(memoryview(found)[_BODY_OFFSET:]))
    return bytes(found)


def _instructions(code: bytes) -> Code:
    found: Code = []
    position = 0
    while position < len(code):
        number, steps, _ = _HEAD.unpack_from(code, position)
        size = _HEAD.size + 4 * len(FIELDS[Opcode(number)]) + _STEP_BYTES * steps
        found.append(code[position : position + size])
        position += size
    return found


def _parts(item: bytes) -> tuple[Opcode, list[int], list[list[int]]] | None:
    """Opcode, fields and steps, or None when an earlier mutation left no whole instruction."""
    try:
        number, count, _ = _HEAD.unpack_from(item)
        opcode = Opcode(number)
        fields = list(struct.unpack_from(f"<{len(FIELDS[opcode])}i", item, _HEAD.size))
        start = _HEAD.size + 4 * len(fields)
        return opcode, fields, [list(struct.unpack_from("<7i", item, start + _STEP_BYTES * n)) for n in range(count)]
    except (struct.error, ValueError):
        return None


def _joined(opcode: int, fields: Sequence[int], steps: Sequence[Sequence[int]]) -> bytes:
    head = _HEAD.pack(opcode, min(len(steps), 255), 0)
    return head + struct.pack(f"<{len(fields)}i", *fields) + b"".join(struct.pack("<7i", *step) for step in steps)


def _place(rng: random.Random, draft: Draft) -> tuple[Code, int] | None:
    """A queue that has instructions, and the number of one of them: mostly of one that moves or computes."""
    filled = [code for code in draft.code.values() if code]
    if not filled:
        return None
    code = rng.choice(filled)
    data = [at for at, item in enumerate(code) if item and item[0] >= Opcode.LOAD]
    return code, rng.choice(data) if data and rng.random() < 0.7 else rng.randrange(len(code))


def _depth(code: Code, at: int) -> int:
    """How many loops are open around an instruction."""
    kinds = [item[0] for item in code[:at] if item]
    return max(0, kinds.count(Opcode.LOOP) - kinds.count(Opcode.END))


def _change_field(rng: random.Random, draft: Draft, drafts: Sequence[Draft]) -> None:
    place = _place(rng, draft)
    parts = place and _parts(place[0][place[1]])
    if place is None or not parts or not parts[1]:
        return
    opcode, fields, steps = parts
    at = rng.randrange(len(fields))
    choice = rng.random()
    if choice < 0.1:
        fields[at] = rng.choice(fields)
    elif choice < 0.2:
        fields[at] = wrapped(_declared_bytes(rng, draft) + rng.randint(-2, 2))
    else:
        fields[at] = field_integer(rng, opcode, at, fields[at])
    place[0][place[1]] = _joined(opcode, fields, steps)


def _stretch(rng: random.Random, draft: Draft, drafts: Sequence[Draft]) -> None:
    """Extents of one instruction grow while its pitches vanish, so that every address stays in bounds."""
    place = _place(rng, draft)
    parts = place and _parts(place[0][place[1]])
    if place is None or not parts or not parts[1]:
        return
    opcode, fields, steps = parts
    side = rng.choice(("in_", "b_", "sram_", "dram_", ""))
    for at, name in enumerate(FIELDS[opcode]):
        if ("pitch" in name or "stride" in name) and name.startswith(side):
            fields[at] = rng.choice((0, 0, 0, 1, fields[at]))
        elif name.endswith(_EXTENTS) or name.startswith("count"):
            fields[at] = rng.choice((fields[at], fields[at], 2, 100, 2**12, 2**15, 2**20, 2**31 - 1))
    place[0][place[1]] = _joined(opcode, fields, steps)


def _declared_bytes(rng: random.Random, draft: Draft) -> int:
    """A number of the memory section, or the size of the constants: where memory ends."""
    digits = "".join(chr(c) if 48 <= c < 58 else " " for c in draft.sections["memory"]).split()
    sizes = [int(word) for word in digits if len(word) < 12]
    return rng.choice([*sizes, len(draft.sections["constants"])])


def _change_steps(rng: random.Random, draft: Draft, drafts: Sequence[Draft]) -> None:
    place = _place(rng, draft)
    parts = place and _parts(place[0][place[1]])
    if place is None or not parts:
        return
    opcode, fields, steps = parts
    depth = _depth(*place) if rng.random() < 0.95 else MAX_LOOPS
    if steps and rng.random() < 0.6:
        step = rng.choice(steps)
        at = rng.choice([0, *range(1, 1 + depth), 5, 5, 6, 6])  # field, coefficients, increment, modulo
        step[at] = rng.randrange(max(1, len(fields))) if at == 0 else integer(rng, step[at])
    elif steps and rng.random() < 0.3:
        del steps[rng.randrange(len(steps))]
    else:
        coefficients = [rng.choice((0, 1, 1, 2, *INTEGERS)) if n < depth else 0 for n in range(MAX_LOOPS)]
        increment, modulo = rng.choice((1, 16, *INTEGERS)), rng.choice((0, 0, 1, 2, 3, *INTEGERS))
        steps.append([rng.randrange(max(1, len(fields))), *map(wrapped, (*coefficients, increment, modulo))])
    place[0][place[1]] = _joined(opcode, fields, steps)


def _change_opcode(rng: random.Random, draft: Draft, drafts: Sequence[Draft]) -> None:
    """The same fields under another opcode, mostly one of the same unit: by name, so that views stay views."""
    place = _place(rng, draft)
    parts = place and _parts(place[0][place[1]])
    if place is None or not parts:
        return
    opcode, fields, steps = parts
    unit = next(unit for unit, code in draft.code.items() if code is place[0])
    other = rng.choice(sorted(UNIT_OPCODES[unit]) if rng.random() < 0.8 else list(Opcode))
    named = dict(zip(FIELDS[opcode], fields, strict=True))
    values = [named.get(name, rng.choice((0, 1, 1, 30))) for name in FIELDS[other]]
    place[0][place[1]] = _joined(rng.randrange(256) if rng.random() < 0.1 else other, values, steps)


def _rearrange(rng: random.Random, draft: Draft, drafts: Sequence[Draft]) -> None:
    """Instructions deleted, doubled, swapped, moved within a queue or into another."""
    place = _place(rng, draft)
    if place is None:
        return
    code, at = place
    other = rng.randrange(len(code))
    match rng.randrange(5):
        case 0:
            del code[at]
        case 1:
            code.insert(other, code[at])
        case 2:
            code[at], code[other] = code[other], code[at]
        case 3:
            code.insert(other, code.pop(at))
        case _:
            target = draft.code[rng.choice(list(Unit))]
            target.insert(rng.randint(0, len(target)), code[at])


def _splice(rng: random.Random, draft: Draft, drafts: Sequence[Draft]) -> None:
    """A piece of the same queue, or a section, of another program."""
    other = rng.choice(drafts)
    if rng.random() < 0.3:
        name = rng.choice(("spec", "memory", "ports", "marks", "constants"))
        draft.sections[name] = other.sections[name]
        return
    unit = rng.choice(list(Unit))
    source, target = other.code[unit], draft.code[unit]
    start = rng.randint(0, len(source))
    at = rng.randint(0, len(target))
    target[at : at + rng.randint(0, 3)] = source[start : start + rng.randint(1, 6)]


def _change_json(rng: random.Random, draft: Draft, drafts: Sequence[Draft]) -> None:
    name = rng.choice(_JSON_SECTIONS)
    draft.sections[name] = changed_json(rng, draft.sections[name])


def _change_constants(rng: random.Random, draft: Draft, drafts: Sequence[Draft]) -> None:
    """Words of the constants set to extremes: biases, multipliers and shifts lie on multiples of four."""
    constants = bytearray(draft.sections["constants"])
    for _ in range(rng.randint(1, 4)):
        if len(constants) >= 4:
            at = 4 * rng.randrange(len(constants) // 4)
            struct.pack_into("<i", constants, at, integer(rng, struct.unpack_from("<i", constants, at)[0]))
    draft.sections["constants"] = bytes(constants) if rng.random() < 0.8 else flipped(rng, bytes(constants))


def _change_code_bytes(rng: random.Random, draft: Draft, drafts: Sequence[Draft]) -> None:
    place = _place(rng, draft)
    if place is not None:
        place[0][place[1]] = flipped(rng, place[0][place[1]])


Mutation = Callable[[random.Random, Draft, Sequence[Draft]], None]
_TABLE: dict[Mutation, int] = {
    _change_field: 34, _stretch: 10, _change_steps: 12, _change_opcode: 5, _rearrange: 14, _splice: 8, _change_json: 14,
    _change_constants: 4, _change_code_bytes: 6,
}  # fmt: skip
_MUTATIONS, _WEIGHTS = list(_TABLE), list(_TABLE.values())
