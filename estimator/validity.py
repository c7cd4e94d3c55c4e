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
    "input_element_bytes", "output_element_bytes", "array_rate",
)  # fmt: skip
_BOX_COLUMNS = np.array([COLUMN[name] for name in _BOX])
_MARGIN = 0.02  # of the span of a feature, or of a hole: how far outside still counts as seen
_SIZE = "log_latency"
_HOLE = 0.3  # octaves of latency: narrower gaps between measurements are no holes
_UNUSUAL = 2.0  # how much wider than nine gaps in ten a hole is
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
    """By kind number: lowest and highest value of the main features among the measurements, and `holes`, ranges of
    log2 latency within these where nothing was measured although it was measured closely around."""

    ranges: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]]
    holes: Mapping[int, tuple[tuple[float, float], ...]]

    def outside(self, x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Rows that extrapolate: a feature outside of its range, a size in a hole, or a kind never seen."""
        nothing = ((inf,) * len(_BOX), (-inf,) * len(_BOX))
        kinds = x[:, COLUMN["kind"]].astype(int)
        limits = np.array([self.ranges.get(kind, nothing) for kind in kinds.tolist()]).reshape(len(x), 2, len(_BOX))
        values = x[:, _BOX_COLUMNS]
        found = np.any((values < limits[:, 0]) | (values > limits[:, 1]), axis=1)
        for kind in set(kinds.tolist()) & self.holes.keys():
            sizes = x[:, COLUMN[_SIZE]]
            for low, high in self.holes[kind]:
                found |= (kinds == kind) & (sizes > low) & (sizes < high)
        return found

    def as_dict(self) -> dict[str, Any]:
        """By kind and feature, [lowest, highest]; under "holes", a list of such pairs."""
        return {
            str(KINDS[kind]): {
                **{n: [a, b] for n, a, b in zip(_BOX, low, high, strict=True)},
                "holes": [list(hole) for hole in self.holes.get(kind, ())],
            }
            for kind, (low, high) in self.ranges.items()
        }


def validity_box(x: NDArray[np.float64]) -> ValidityBox:
    """The box around the rows of a feature matrix, and its holes."""
    ranges: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    holes: dict[int, tuple[tuple[float, float], ...]] = {}
    for kind in np.unique(x[:, 0].astype(int)):
        own = x[x[:, 0] == kind]
        rows = own[:, _BOX_COLUMNS]
        margin = _MARGIN * np.ptp(rows, axis=0)
        low, high = rows.min(axis=0) - margin, rows.max(axis=0) + margin
        ranges[int(kind)] = tuple(low.tolist()), tuple(high.tolist())
        if found := _holes(own[:, COLUMN[_SIZE]]):
            holes[int(kind)] = found
    return ValidityBox(ranges, holes)


def _holes(sizes: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Gaps between neighbouring sizes that are wide in themselves and beside nearly all other gaps."""
    seen = np.unique(sizes)
    gaps = np.diff(seen)
    if not len(gaps):
        return ()
    wide = gaps > max(_HOLE, _UNUSUAL * float(np.quantile(gaps, 0.9)))
    edge = _MARGIN * gaps[wide]
    pairs = zip(seen[:-1][wide] + edge, seen[1:][wide] - edge, strict=True)
    return tuple((float(low), float(high)) for low, high in pairs)


def box_from_dict(value: Mapping[str, Any]) -> ValidityBox:
    """The inverse of `ValidityBox.as_dict`; missing features raise `KeyError`, other malformed values `ValueError`."""
    ranges: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    holes: dict[int, tuple[tuple[float, float], ...]] = {}
    for name, features in value.items():
        kind = KINDS.index(Kind(name))
        limits = [(float(low), float(high)) for low, high in (features[feature] for feature in _BOX)]
        ranges[kind] = tuple(low for low, _ in limits), tuple(high for _, high in limits)
        if found := tuple((float(low), float(high)) for low, high in features["holes"]):
            holes[kind] = found
    return ValidityBox(ranges, holes)
