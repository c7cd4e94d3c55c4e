"""How far an estimator may be trusted: conformal upper bounds by kind, and the ranges that it has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import EstimatorError
from ..kernels.subgraph import Kind
from .features import COLUMN, KINDS

MISS_RATE = 0.05  # how often a latency may exceed its upper bound
_BOX = (
    "log_latency", "log_weight_bytes", "log_map_bytes", "log_dram_bytes",
    "rows", "columns", "channels_in", "channels_out", "kernel", "stride", "operators",
    "input_in_dram", "output_in_dram", "second_in_dram", "host_order", "residual",
)  # fmt: skip
_BOX_COLUMNS = np.array([COLUMN[name] for name in _BOX])
_MARGIN = 0.05  # of the span of a feature: how far outside still counts as seen
_FEW = 20  # below this many held-out samples a kind borrows the errors of all kinds


@dataclass(frozen=True, slots=True)
class UpperBounds:
    """Factors by which a latency may exceed its prediction, by kind number; split conformal, one-sided."""

    by_kind: Mapping[int, float]
    pooled: float

    def factors(self, kinds: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self.by_kind.get(int(kind), self.pooled) for kind in kinds], np.float64)

    def as_dict(self) -> dict[str, Any]:
        return {"by_kind": {str(k): v for k, v in self.by_kind.items()}, "pooled": self.pooled}


def upper_bounds(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], kinds: NDArray[np.int64]
) -> UpperBounds:
    """Bounds from a held-out split."""
    ratios = measured / predicted
    pooled = conformal_factor(ratios.tolist())
    found: dict[int, float] = {}
    for kind in np.unique(kinds):
        own = ratios[kinds == kind].tolist()
        found[int(kind)] = conformal_factor(own) if len(own) >= _FEW else max(pooled, *own)
    return UpperBounds(found, pooled)


def conformal_factor(ratios: Sequence[float]) -> float:
    """The factor that measured / predicted exceeds with probability `MISS_RATE` at most, never below 1.

    With too few ratios for that promise it is the largest of them.
    """
    if not ratios:
        raise EstimatorError("an upper bound needs held-out measurements", hint="fit with more networks")
    rank = min(ceil((len(ratios) + 1) * (1 - MISS_RATE)), len(ratios))
    return max(1.0, sorted(ratios)[rank - 1])


@dataclass(frozen=True, slots=True)
class ValidityBox:
    """Lowest and highest value of the main features among the measurements of each kind number."""

    ranges: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]]

    def outside(self, x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Rows that extrapolate: a feature outside of its range, or a kind never seen."""
        nothing = ((inf,) * len(_BOX), (-inf,) * len(_BOX))
        limits = np.array([self.ranges.get(int(kind), nothing) for kind in x[:, COLUMN["kind"]]])
        values = x[:, _BOX_COLUMNS]
        return np.any((values < limits[:, 0]) | (values > limits[:, 1]), axis=1)

    def as_dict(self) -> dict[str, Any]:
        """By kind and feature, [lowest, highest]."""
        return {
            str(KINDS[kind]): {n: [a, b] for n, a, b in zip(_BOX, low, high, strict=True)}
            for kind, (low, high) in self.ranges.items()
        }


def validity_box(x: NDArray[np.float64]) -> ValidityBox:
    """The box around the rows of a feature matrix."""
    ranges: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    for kind in np.unique(x[:, 0].astype(int)):
        rows = x[x[:, 0] == kind][:, _BOX_COLUMNS]
        margin = _MARGIN * np.ptp(rows, axis=0)
        low, high = rows.min(axis=0) - margin, rows.max(axis=0) + margin
        ranges[int(kind)] = tuple(low.tolist()), tuple(high.tolist())
    return ValidityBox(ranges)


def box_from_dict(value: Mapping[str, Any]) -> ValidityBox:
    """The inverse of `ValidityBox.as_dict`; missing features raise `KeyError`, other malformed values `ValueError`."""
    ranges: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    for kind, features in value.items():
        limits = [(float(low), float(high)) for low, high in (features[name] for name in _BOX)]
        ranges[KINDS.index(Kind(kind))] = tuple(low for low, _ in limits), tuple(high for _, high in limits)
    return ValidityBox(ranges)
