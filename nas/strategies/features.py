"""What the accuracy predictor sees of a candidate: its knobs, what it costs, and its zero-shot scores.

Knobs with an order enter as their place among the values (0..1), all others as one-hot columns. Knobs of one kind
with the same values also enter as shares ("half of the blocks are fused"), so that what was learnt about one block
helps with the next. A knob that is not active is 0 everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ...models.architecture import Architecture, Knob, KnobValue
from ..results import TrialRecord
from ..scoring import Cost
from ..space import Space

Matrix = NDArray[np.float64]
SHARED = 3  # knobs with the same values before their shares say more than the knobs themselves


@dataclass(frozen=True, slots=True)
class KnobFeatures:
    """The columns of a space's knobs."""

    knobs: tuple[Knob, ...]
    groups: tuple[tuple[tuple[str, ...], tuple[KnobValue, ...]], ...]

    @classmethod
    def of(cls, space: Space) -> KnobFeatures:
        open_knobs = tuple(knob for knob in space.knobs if len(knob.values) > 1)
        alike: dict[tuple[str, tuple[KnobValue, ...]], list[str]] = {}
        for knob in open_knobs:
            if not _ordered(knob):
                alike.setdefault((knob.kind, knob.values), []).append(knob.name)
        groups = [(tuple(names), values) for (_, values), names in alike.items() if len(names) >= SHARED]
        return cls(open_knobs, tuple(groups))

    def matrix(self, architectures: Sequence[Architecture]) -> Matrix:
        """(architectures, columns)."""
        return np.array([self._row(architecture) for architecture in architectures], np.float64)

    def _row(self, architecture: Architecture) -> list[float]:
        values = architecture.values
        row = [column for knob in self.knobs for column in _columns(knob, values.get(knob.name))]
        for names, choices in self.groups:
            taken = [values.get(name) for name in names]
            # a share moves less than a switch that is thrown; the square root evens out their scales
            row += [len(names) ** 0.5 * taken.count(choice) / len(names) for choice in choices]
        return row


def cost_matrix(costs: Sequence[Cost]) -> Matrix:
    """(candidates, 3): MACs, weights and latency as normal scores of their ranks."""
    raw = [(cost.macs, cost.weight_bytes, cost.latency_us) for cost in costs]
    return normal_scores(np.array(raw, np.float64))


def score_matrix(records: Sequence[TrialRecord]) -> Matrix:
    """(candidates, scores): zero-shot scores as normal scores of their ranks; degenerate ones share the last."""
    names = sorted(records[0].scores) if records else []
    return normal_scores(np.array([[record.scores[name] for name in names] for record in records], np.float64))


def capacity(costs: Sequence[Cost]) -> Matrix:
    """(candidates,): mean rank of MACs and weights, 0..1. Inside a cap, work that fits costs nothing more."""
    ranks = [rankdata([getattr(cost, name) for cost in costs]) for name in ("macs", "weight_bytes")]
    return np.mean(ranks, axis=0) / max(1, len(costs))


def normal_scores(values: Matrix) -> Matrix:
    """Every column by rank, mapped onto a normal distribution: scales and outliers vanish, the order stays."""
    from scipy.special import ndtri

    if values.size == 0:
        return values
    ranks = np.apply_along_axis(rankdata, 0, values)
    scores = np.asarray(ndtri((ranks - 0.5) / len(values)), np.float64)
    return scores - scores.mean(axis=0)


def _columns(knob: Knob, value: KnobValue | None) -> list[float]:
    if _ordered(knob):
        return [0.0 if value is None else (1 + list(knob.values).index(value)) / len(knob.values)]
    return [float(value == choice) for choice in knob.values]


def _ordered(knob: Knob) -> bool:
    return all(isinstance(value, int | float) for value in knob.values)
