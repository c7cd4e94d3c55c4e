"""Architecture strings of NAS-Bench-201: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, one group per node of the cell."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..common.errors import ConfigError

NONE, SKIP, CONV_1, CONV_3, POOL = "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"
OPERATIONS = (NONE, SKIP, CONV_1, CONV_3, POOL)
NODES = 4
EDGES = tuple((target, source) for target in range(1, NODES) for source in range(target))
"""(node, node that it reads) in the order of the string."""

_TERM = re.compile(r"([^|~+]*)~([^|~+]*)\|")
_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"


def parse_cell(text: str) -> dict[tuple[int, int], str]:
    """The operation of every edge (node, node that it reads).

    Raises:
        ConfigError: a malformed string, with the position of its first unexpected character (from 0).
    """
    position, found = 0, {}
    for target in range(1, NODES):
        position = _expect(text, position, "|" if target == 1 else "+|")
        for source in range(target):
            found[target, source], position = _term(text, position, source)
    if position != len(text):
        raise _malformed(text, position, "the end")
    return found


def format_cell(edges: Mapping[tuple[int, int], str]) -> str:
    """The string that `parse_cell` reads back as `edges`."""
    nodes = ("".join(f"{edges[target, source]}~{source}|" for source in range(target)) for target in range(1, NODES))
    return "+".join(f"|{node}" for node in nodes)


def is_connected(edges: Mapping[tuple[int, int], str]) -> bool:
    """True when some path without "none" leads from the input of the cell to its output."""
    reached = {0}
    for target, source in EDGES:
        if source in reached and edges[target, source] != NONE:
            reached.add(target)
    return NODES - 1 in reached


def _term(text: str, position: int, source: int) -> tuple[str, int]:
    match = _TERM.match(text, position)
    if match is None:
        raise _malformed(text, position, f"operation~{source}|")
    if match[1] not in OPERATIONS:
        raise ConfigError(
            f"unknown operation {match[1]!r}", where=f"position {position} of {text!r}",
            hint=f"known: {', '.join(OPERATIONS)}",
        )  # fmt: skip
    if match[2] != str(source):
        raise _malformed(text, match.start(2), str(source))
    return match[1], match.end()


def _expect(text: str, position: int, token: str) -> int:
    if not text.startswith(token, position):
        raise _malformed(text, position, repr(token))
    return position + len(token)


def _malformed(text: str, position: int, expected: str) -> ConfigError:
    found = repr(text[position : position + 12]) if position < len(text) else "the end"
    return ConfigError(
        f"not a cell: expected {expected}, found {found}", where=f"position {position} of {text!r}",
        hint=f"the form is {_FORM}",
    )  # fmt: skip
