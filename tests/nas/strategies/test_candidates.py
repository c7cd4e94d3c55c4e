from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from nas_fakes import TOY

from lanefit.nas.session import knob_difference
from lanefit.nas.space import Space
from lanefit.nas.strategies.candidates import mutated
from lanefit.nas.strategies.features import KnobFeatures, normal_scores

SPACE = Space.of(TOY)


@given(st.integers(0, 10**6), st.integers(1, 2))
def test_a_mutation_stays_in_the_space_and_differs(seed: int, changes: int) -> None:
    parent = SPACE.sample(seed)
    child = mutated(SPACE, parent, np.random.default_rng(seed), changes=changes)
    SPACE.check(child)
    assert child != parent
    if child.values["depth"] == parent.values["depth"]:
        assert knob_difference(parent, child) <= changes


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_different_networks_have_different_features(seeds: list[int]) -> None:
    architectures = [SPACE.sample(seed) for seed in seeds]
    matrix = KnobFeatures.of(SPACE).matrix(architectures)
    assert np.isfinite(matrix).all()
    for i, a in enumerate(architectures):
        for j, b in enumerate(architectures):
            assert (a == b) == bool((matrix[i] == matrix[j]).all())


def test_normal_scores_keep_the_order_and_put_the_degenerate_last() -> None:
    values = np.array([[3.0], [-np.inf], [1e30], [-np.inf], [4.0]])
    scores = normal_scores(values)[:, 0]
    assert list(np.argsort(-scores, kind="stable")[:3]) == [2, 4, 0]
    assert scores[1] == scores[3] < scores[0]
