"""Values at which code breaks: integers around powers of two and around limits, JSON of the wrong kind."""

from __future__ import annotations

import json
import random
from typing import Any

from lanefit.targets.isa import FIELDS, Opcode
from lanefit.targets.ranges import legal_range

_POWERS = tuple(sign * (2**bits + around) for bits in (3, 4, 5, 7, 8, 15, 16, 30, 31) for around in (-1, 0, 1)
                for sign in (1, -1))  # fmt: skip
INTEGERS = tuple(sorted({0, 1, -1, 2, 3, 5, 62, 63, 64, 100, *_POWERS}))
_JSON = (None, True, False, 0, -1, 1, 0.0, -0.5, 1e308, 2**53, 2**53 + 1, -(2**63), 10**400, "", "x", "\0", "../x", [],
         {}, [0], [[]], {"a": None}, float("nan"), float("inf"), float("-inf"))  # fmt: skip
_WORDS = (b"NaN", b"Infinity", b"1e999", b"-0", b"[" * 2000, b'"\\ud800"', b"\xff\xfe", b"9" * 5000, b"null")


def wrapped(value: int) -> int:
    """The signed 32-bit integer with the same low bits."""
    return (value + 2**31) % 2**32 - 2**31


def integer(rng: random.Random, near: int = 0, field: str = "") -> int:
    """An int32 for a field that holds `near`: close to it, close to a limit of the field, or extreme anywhere."""
    choice = rng.random()
    limits = legal_range(field)
    if limits is not None and choice < 0.3:
        return wrapped(rng.choice(limits) + rng.randint(-1, 1))
    if choice < 0.6:
        return wrapped(near + rng.choice((-64, -16, -4, -2, -1, 1, 2, 3, 8, 16, 64)))
    if choice < 0.7:
        return wrapped(rng.choice((near * 2, near // 2, -near, near ^ (1 << rng.randrange(32)))))
    return wrapped(rng.choice(INTEGERS)) if choice < 0.95 else rng.randint(-(2**31), 2**31 - 1)


def field_integer(rng: random.Random, opcode: Opcode, position: int, near: int) -> int:
    return integer(rng, near, FIELDS[opcode][position])


def flipped(rng: random.Random, data: bytes) -> bytes:
    """The bytes with something flipped, cut out, doubled, inserted or cut off."""
    found = bytearray(data)
    at = rng.randrange(len(found) + 1)
    match rng.randrange(6):
        case 0 | 1 if at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        case 2 if at < len(found):
            found[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        case 3:
            del found[at : at + rng.randint(1, 32)]
        case 4:
            found[at:at] = (
                found[at : at + rng.randint(1, 32)] if rng.random() < 0.5 else rng.randbytes(rng.randint(1, 8))
            )
        case _:
            del found[at:]
    return bytes(found)


def changed_json(rng: random.Random, text: bytes) -> bytes:
    """The JSON document with a value somewhere in it replaced, removed, doubled or added; now and then no JSON."""
    if rng.random() < 0.1:
        return flipped(rng, text)
    try:
        value = _change(rng, json.loads(text))
    except (ValueError, RecursionError):  # an earlier mutation left no JSON
        return flipped(rng, text)
    found = json.dumps(value).encode()
    if rng.random() < 0.05:
        at = rng.randrange(len(found) + 1)
        found = found[:at] + rng.choice(_WORDS) + found[at:]
    return found


def _change(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        action = rng.random()
        if action < 0.08:
            return {k: v for k, v in value.items() if k != key}
        if action < 0.14:
            return {**value, rng.choice(("", "extra", key + "_")): _leaf(rng, value[key])}
        return {**value, key: _change(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        action = rng.random()
        if action < 0.1:
            return value[:at] + value[at + 1 :]
        if action < 0.2:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], _change(rng, value[at]), *value[at + 1 :]]
    return _leaf(rng, value)


def _leaf(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool) or rng.random() < 0.2:
        return rng.choice(_JSON)
    if isinstance(value, int):
        return integer(rng, value) if rng.random() < 0.8 else rng.choice(INTEGERS) * 2**20
    if isinstance(value, float):
        return rng.choice((value * 2, value / 3, -value, value + 1, 0.0, 1e-300, 1e300, value * 1e10))
    if isinstance(value, str):
        return rng.choice((value + "x", value[:-1], value * 2, value.upper(), "", "图像", "a" * 300))
    return rng.choice(_JSON)
