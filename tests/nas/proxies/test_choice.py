from __future__ import annotations

import math

import numpy as np
import pytest

from lanefit.common.errors import InputError
from lanefit.nas.proxies import Scores, ScoreScale, rank_scores
from lanefit.nas.proxies.choice import LEAST_LABELS, pick_combination
from lanefit.nas.proxies.selfcheck import spearman


def _networks(count: int, seed: int, *, misled: bool) -> tuple[list[Scores], list[float]]:
    """Scores "a" and "b" of the default and "c", of which either only "c" or a and b alike know the accuracy."""
    random = np.random.default_rng(seed)
    truth, noise = random.normal(size=count), random.normal(size=(3, count))
    known = [0.0, 0.0, 3.0] if misled else [1.5, 1.5, 0.0]
    columns = {name: k * truth + n for name, k, n in zip("abc", known, noise, strict=True)}
    return [{name: float(column[i]) for name, column in columns.items()} for i in range(count)], truth.tolist()


def test_labels_move_the_weight_to_the_score_that_knows() -> None:
    scores, labels = _networks(30, 0, misled=True)
    choice = pick_combination(scores, labels, ("a", "b"))
    assert choice.learned
    assert choice.weights["c"] > 0.8
    assert choice.spearman_learned > choice.spearman_default
    others, truth = _networks(300, 1, misled=True)
    default = rank_scores(others, {"a": 0.5, "b": 0.5})
    assert spearman(rank_scores(others, choice.weights), truth) > spearman(default, truth) + 0.5


@pytest.mark.parametrize("count", [3, 20])
def test_a_good_default_stays_whatever_a_handful_of_labels_says(count: int) -> None:
    kept = [not pick_combination(*_networks(count, seed, misled=False), ("a", "b")).learned for seed in range(10)]
    assert sum(kept) >= 9  # a test at 95 % may be wrong now and then


def test_labels_without_any_relation_keep_the_default() -> None:
    random = np.random.default_rng(7)
    kept = 0
    for seed in range(10):
        scores, _ = _networks(20, seed, misled=True)
        kept += not pick_combination(scores, random.normal(size=20).tolist(), ("a", "b")).learned
    assert kept >= 8


def test_weights_add_up_to_one_and_are_never_negative() -> None:
    for seed, misled in ((0, True), (1, False)):
        weights = pick_combination(*_networks(25, seed, misled=misled), ("a", "b")).weights
        assert sum(weights.values()) == pytest.approx(1.0)
        assert min(weights.values()) >= 0


def test_few_labels_and_equal_labels_give_the_default_with_the_reason() -> None:
    scores, labels = _networks(LEAST_LABELS - 1, 0, misled=True)
    assert "fewer than" in pick_combination(scores, labels, ("a", "b")).reason
    scores, _ = _networks(20, 0, misled=True)
    assert pick_combination(scores, [1.0] * 20, ("a", "b")).weights == {"a": 0.5, "b": 0.5}


def test_labels_that_cannot_be_used_are_refused() -> None:
    scores, labels = _networks(10, 0, misled=True)
    for wrong in (labels[:-1], [*labels[:-1], math.nan]):
        with pytest.raises(InputError, match="must be as many and finite"):
            pick_combination(scores, wrong, ("a", "b"))


def test_a_scale_gives_values_that_do_not_depend_on_the_cohort_and_bounds_degenerate_ones() -> None:
    scores, _ = _networks(50, 0, misled=True)
    scale = ScoreScale.of(scores)
    assert np.mean([scale.value(member) for member in scores]) == pytest.approx(0.0, abs=1e-9)
    assert scale.value({"a": -math.inf, "b": -math.inf, "c": -math.inf}) == -10.0
    assert scale.value({"a": math.inf, "b": math.nan, "c": 0.0}) < 5
    only_c = ScoreScale.of(scores, {"c": 2.0})
    assert only_c.value({**scores[0], "a": 1e9}) == only_c.value(scores[0])


def test_ranks_with_weights_follow_the_heavier_score() -> None:
    cohort = [{"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 2.0}, {"a": 3.0, "b": 1.0}]
    assert np.argmax(rank_scores(cohort, {"a": 3.0, "b": 1.0})) == 2
    assert rank_scores(cohort, {"a": 1.0, "b": 1.0}) == rank_scores(cohort)
