from __future__ import annotations

from collections.abc import Mapping

from lanefit.common.budget import Verdict
from lanefit.models.architecture import Architecture
from lanefit.nas.results import TrialRecord
from lanefit.nas.strategies.ranking import FEW_KNOBS, ranked


def _record(index: int, values: str, scores: Mapping[str, float]) -> TrialRecord:
    """A trial of as many knobs as `values` has letters."""
    knobs = tuple((f"knob{place}", letter) for place, letter in enumerate(values))
    return TrialRecord(index, Architecture("letters", knobs), None, Verdict(), (0.0,), scores=scores)


def _order(values: list[str], scores: list[float]) -> list[int]:
    records = [_record(i, v, {"a": s}) for i, (v, s) in enumerate(zip(values, scores, strict=True))]
    return [record.index for record, _ in ranked(records, [-float(i) for i in range(len(records))])]


def test_among_many_knobs_a_network_that_differs_in_one_comes_after_all_others() -> None:
    many = "x" * (FEW_KNOBS + 1)
    assert _order([many, "y" + many[1:], "yy" + many[2:]], [3.0, 2.0, 1.0]) == [0, 2, 1]


def test_among_few_knobs_one_of_them_makes_another_network() -> None:
    few = "x" * FEW_KNOBS
    assert _order([few, "y" + few[1:], "yy" + few[2:]], [3.0, 2.0, 1.0]) == [0, 1, 2]


def test_networks_of_equal_scores_count_as_one() -> None:
    assert _order(["xxxx", "yyyy", "zzzz"], [3.0, 3.0, 1.0]) == [0, 2, 1]


def test_networks_without_scores_are_told_apart_by_their_knobs_alone() -> None:
    records = [_record(i, values, {}) for i, values in enumerate(["xxxx", "yyyy"])]
    assert [record.index for record, _ in ranked(records, [1.0, 2.0])] == [1, 0]
