"""`EarlierSearch`: what an earlier search, on other data or for another target, makes of a candidate.

Its accuracies mean nothing here, their order may: a predictor learns the rank of each of its trainings from the knobs.
What that expects of a candidate is one score more before this search has trained anything, and one view more for its
own predictor afterwards, whose fit decides how far it counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from ...models.architecture import Architecture
from ..beginning import Label
from ..results import TrialRecord
from .accuracy_predictor import LEAST_LABELS, AccuracyPredictor
from .features import KnobFeatures, Matrix, normal_scores

NAME = "earlier search"  # among the scores
CHANCE = 1.645  # a rank correlation of n labels is above this over sqrt(n - 1) by chance in one case of twenty


class EarlierSearch:
    """Fitted to `labels` on construction: at least `LEAST_LABELS`, not all equal; `learn` sees to that."""

    def __init__(self, labels: Sequence[Label], knobs: KnobFeatures, seed: int) -> None:
        self._knobs = knobs
        places = (rankdata([accuracy for _, accuracy in labels]) - 0.5) / len(labels)
        self._predictor = AccuracyPredictor(knobs.matrix([found for found, _ in labels]), list(places), seed)

    @classmethod
    def learn(cls, labels: Sequence[Label], knobs: KnobFeatures, seed: int) -> EarlierSearch | None:
        """None where the labels say nothing about an order, or there are no knobs to learn from."""
        enough = len(labels) >= LEAST_LABELS and len({accuracy for _, accuracy in labels}) > 1
        return cls(labels, knobs, seed) if enough and knobs.knobs else None

    def expects(self, architectures: Sequence[Architecture]) -> Matrix:
        """(architectures, 1): the expected place among `architectures`, as a normal score; higher is better."""
        mean, _ = self._predictor.predict(self._knobs.matrix(architectures))
        return normal_scores(mean[:, None])

    @property
    def convincing(self) -> bool:
        """Whether labels that were left out are predicted better than chance would; else nobody listens."""
        report = self._predictor.report
        return report.spearman * (report.labels - 1) ** 0.5 > CHANCE

    def __str__(self) -> str:
        report = self._predictor.report
        ending = "" if self.convincing else ", which may be chance: only its best candidates were used"
        return f"earlier search: {report.labels} labels, left out one by one: Spearman {report.spearman:.2f}{ending}"


def view_of(earlier: EarlierSearch | None, architectures: Sequence[Architecture]) -> Matrix:
    """What the earlier search expects, (architectures, 1); without one that convinces, (architectures, 0)."""
    if earlier is None or not earlier.convincing or not architectures:
        return np.empty((len(architectures), 0))
    return earlier.expects(architectures)


def scores_with(earlier: EarlierSearch | None, records: Sequence[TrialRecord]) -> list[dict[str, float]]:
    """The scores of `records`, and among them what the earlier search expects."""
    view = view_of(earlier, [record.architecture for record in records])
    if not view.shape[1]:
        return [dict(record.scores) for record in records]
    return [{**record.scores, NAME: float(row[0])} for record, row in zip(records, view, strict=True)]
