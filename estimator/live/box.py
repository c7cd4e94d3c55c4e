"""The box in which a live calibration holds: by kind of operator, the extents of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeAlias

import numpy as np

from .operator_costs import Sum
from .work import EXTENTS, Work, work_of

Box: TypeAlias = Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
"""By kind, the lowest and the highest of `EXTENTS`, as logarithms to base 2."""
_MARGIN = 0.25  # doublings beyond the box within which the smooth part of the model still knows its neighbours


class Known(StrEnum):
    """How an operator stands to the box."""

    INSIDE = "inside"
    BEYOND = "beyond"
    UNKNOWN = "unknown kind"


def box_of(sums: Sequence[Sum]) -> Box:
    """The box of all operators in measured sums."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for work in (work_of(term.operator) for total in sums for term in total.terms):
        found.setdefault(work.kind, []).append(work.extents)
    return {
        kind: (tuple(np.min(rows, 0).tolist()), tuple(np.max(rows, 0).tolist())) for kind, rows in sorted(found.items())
    }


def place(box: Box, work: Work) -> Known:
    """Where an operator lies; a kind that nobody measured has no box at all."""
    if work.kind not in box:
        return Known.UNKNOWN
    low, high = box[work.kind]
    inside = all(a - _MARGIN <= x <= b + _MARGIN for a, x, b in zip(low, work.extents, high, strict=True))
    return Known.INSIDE if inside else Known.BEYOND


def box_as_dict(box: Box) -> dict[str, dict[str, list[float]]]:
    """By kind and extent, [lowest, highest] as numbers instead of logarithms."""
    return {
        kind: {name: [_plain(a), _plain(b)] for name, a, b in zip(EXTENTS, low, high, strict=True)}
        for kind, (low, high) in box.items()
    }


def _plain(logarithm: float) -> float:
    return float(round(2**logarithm))
