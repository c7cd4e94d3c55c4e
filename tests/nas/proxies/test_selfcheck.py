from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.nas.proxies import blind_warnings, size_controlled, size_share, size_warnings
from lanefit.nas.proxies.selfcheck import spearman

finite = st.floats(-1e6, 1e6)


def _space(count: int = 400, levels: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Networks of a few sizes, whose accuracy is size plus a quality that size does not know."""
    random = np.random.default_rng(3)
    size = random.integers(1, levels + 1, count).astype(float)
    quality = random.normal(size=count)
    return size, quality, size + quality


def test_size_itself_is_worth_nothing_at_equal_size() -> None:
    size, quality, accuracy = _space()
    found = size_controlled(size.tolist(), accuracy.tolist(), size.tolist())
    assert (found.value, found.method, found.count) == (0.0, "groups", 400)
    assert size_controlled(quality.tolist(), accuracy.tolist(), size.tolist()).value == pytest.approx(1.0)


def test_groups_are_equal_in_every_given_size() -> None:
    size, quality, accuracy = _space()
    halves = np.arange(400) % 2
    mixed = np.where(halves, quality, -quality)  # right in one half and wrong in the other one
    found = size_controlled(mixed.tolist(), accuracy.tolist(), size.tolist(), halves.tolist())
    assert found.value == pytest.approx(0.0, abs=0.15)


def test_sizes_that_never_repeat_are_taken_out_by_regression() -> None:
    size, quality, _ = _space()
    fine = size + np.random.default_rng(4).uniform(0, 1, len(size))
    accuracy = fine + quality
    found = size_controlled((fine**3).tolist(), accuracy.tolist(), fine.tolist())
    assert found.method == "partial"
    assert math.isnan(found.value) or abs(found.value) < 0.1
    assert size_controlled((fine + quality).tolist(), accuracy.tolist(), fine.tolist()).value == pytest.approx(1.0)
    assert size_controlled(quality.tolist(), accuracy.tolist(), fine.tolist()).value > 0.9


@given(st.lists(st.tuples(finite, finite, st.integers(1, 3)), min_size=2, max_size=40))
@settings(max_examples=60)
def test_the_size_controlled_correlation_is_a_correlation_or_unknown(rows: list[tuple[float, float, int]]) -> None:
    scores, labels, sizes = (list(column) for column in zip(*rows, strict=True))
    value = size_controlled(scores, labels, sizes).value
    assert math.isnan(value) or -1 - 1e-9 <= value <= 1 + 1e-9


def test_a_share_of_size_is_one_for_any_monotone_function_of_it_and_small_for_what_ignores_it() -> None:
    size, quality, accuracy = _space()
    assert size_share(np.exp(size).tolist(), size.tolist()) == pytest.approx(1.0, abs=0.01)
    assert size_share(quality.tolist(), size.tolist()) < 0.05
    assert 0.6 < size_share(accuracy.tolist(), size.tolist()) < 0.95


def test_two_sizes_explain_a_score_that_neither_explains_alone() -> None:
    random = np.random.default_rng(5)
    macs, parameters = random.uniform(0, 1, (2, 300))
    cohort = [{"both": float(a + b)} for a, b in zip(macs, parameters, strict=True)]
    assert size_warnings(cohort, macs.tolist()) == []
    assert len(size_warnings(cohort, macs.tolist(), parameters.tolist())) == 1


def test_degenerate_scores_rank_last_and_constant_ones_have_no_correlation() -> None:
    assert spearman([math.nan, -math.inf, 1.0, 2.0], [0.0, 0.0, 1.0, 2.0]) == pytest.approx(1.0)
    assert math.isnan(spearman([1.0, 1.0], [1.0, 2.0]))


def test_a_score_that_knows_size_alone_is_called_blind_and_one_that_knows_quality_is_not() -> None:
    size, quality, accuracy = _space()
    noise = 0.1 * np.random.default_rng(6).normal(size=(2, len(size)))
    rows = zip(size + noise[0], quality + size, noise[1], strict=True)
    cohort = [{"counts": float(a), "knows": float(b), "noise": float(c), "macs": float(a)} for a, b, c in rows]
    warnings = blind_warnings(cohort, accuracy.tolist(), size.tolist())
    assert [warning.split()[0] for warning in warnings] == ["counts"]
