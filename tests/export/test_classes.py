"""Class scores are shares in the order of the outputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lanefit.export.classes import softmax, top_classes

VECTORS = npst.arrays(np.float32, st.integers(2, 12), elements=st.floats(-1e4, 1e4, width=32))


@given(VECTORS)
def test_shares_add_up_and_keep_the_order(values: np.ndarray) -> None:
    shares = softmax(values)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares[np.argsort(values, kind="stable")]) >= 0).all()


def test_best_classes_come_first_and_by_name() -> None:
    best = top_classes({"y": np.array([[0.0, 2.0, 1.0]])}, ["a", "b"], 2)
    assert [item.name for item in best[0]] == ["b", "2"]


@pytest.mark.parametrize("outputs", [{"y": np.zeros((1, 1))}, {"y": np.zeros((1, 2, 2))}, {"a": 0, "b": 0}])
def test_other_outputs_have_no_classes(outputs: dict[str, np.ndarray]) -> None:
    assert top_classes(outputs, [], 3) == []
