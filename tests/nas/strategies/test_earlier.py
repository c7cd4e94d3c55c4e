"""What an earlier search teaches a later one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nas_fakes import TOY, FakeBench, toy_config

from lanefit.common.errors import Interrupted
from lanefit.models.architecture import Architecture
from lanefit.nas.beginning import Label
from lanefit.nas.conformance import watched
from lanefit.nas.proxies.selfcheck import spearman
from lanefit.nas.search import run_search
from lanefit.nas.space import Space
from lanefit.nas.strategies.earlier import NAME, EarlierSearch, scores_with, view_of
from lanefit.nas.strategies.features import KnobFeatures

SPACE = Space.of(TOY)
KNOBS = KnobFeatures.of(SPACE)


def _labels(count: int, seed: int = 0) -> list[Label]:
    drawn = {found.digest(): found for found in (SPACE.sample(seed + i) for i in range(4 * count))}
    return [(found, _accuracy(found)) for found in list(drawn.values())[:count]]


def _accuracy(found: Architecture) -> float:
    work = FakeBench().estimate_quietly(found)
    return 1 - 1 / np.log(3 + work)


def test_the_order_of_unseen_candidates_is_learnt() -> None:
    earlier = EarlierSearch.learn(_labels(24), KNOBS, 0)
    assert earlier is not None
    unseen = [found for found, _ in _labels(40, seed=1000)]
    expected = earlier.expects(unseen)[:, 0]
    assert spearman(list(expected), [_accuracy(found) for found in unseen]) > 0.6


def test_only_the_order_of_accuracies_counts() -> None:
    labels, unseen = _labels(12), [found for found, _ in _labels(20, seed=500)]
    stretched = [(found, 0.1 + 0.05 * accuracy**3) for found, accuracy in labels]
    one, other = (EarlierSearch(given, KNOBS, 0).expects(unseen) for given in (labels, stretched))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("labels", [[], _labels(3), [(found, 0.5) for found, _ in _labels(9)]])
def test_labels_without_an_order_teach_nothing(labels: list[Label]) -> None:
    assert EarlierSearch.learn(labels, KNOBS, 0) is None
    assert view_of(None, [found for found, _ in _labels(5)]).shape == (5, 0)


def test_labels_of_chance_are_not_listened_to() -> None:
    random = np.random.default_rng(3)
    labels = [(found, float(random.uniform(0.5, 0.9))) for found, _ in _labels(24)]
    earlier = EarlierSearch.learn(labels, KNOBS, 0)
    assert earlier is not None
    assert not earlier.convincing
    assert "may be chance" in str(earlier)
    assert view_of(earlier, [found for found, _ in labels]).shape == (24, 0)


def test_the_expectation_is_one_score_more(tmp_path: Path) -> None:
    records = run_search(toy_config(strategy="zero-shot"), tmp_path / "run", FakeBench()).trials
    scored = [record for record in records if record.scores]
    found = scores_with(EarlierSearch.learn(_labels(24), KNOBS, 0), scored)
    assert all(set(scores) == {*record.scores, NAME} for scores, record in zip(found, scored, strict=True))
    assert scores_with(None, scored) == [dict(record.scores) for record in scored]


def test_a_search_that_learns_from_an_earlier_one_resumes_as_if_undisturbed(tmp_path: Path) -> None:
    run_search(toy_config(strategy="multi-shot", pruner="none", seed=1), tmp_path / "earlier", FakeBench())
    config = toy_config(warm_start=str(tmp_path / "earlier"), trainings=10, trials=24)
    whole = run_search(config, tmp_path / "whole", FakeBench())
    said = next(warning for warning in whole.warnings if warning.startswith("earlier search: "))
    assert "labels, left out one by one: Spearman" in said
    with pytest.raises(Interrupted):
        run_search(config, tmp_path / "run", watched(FakeBench(), 9))
    assert run_search(None, tmp_path / "run", FakeBench(), resume=True) == whole
