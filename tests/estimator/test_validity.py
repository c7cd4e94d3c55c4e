"""What counts as extrapolation: beyond the sizes that were measured, or in a hole between them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanefit.estimator.features import COLUMN, COLUMNS
from lanefit.estimator.validity import ValidityBox, box_from_dict, validity_box

SIZE = COLUMN["log_latency"]


def rows(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.zeros((len(sizes), len(COLUMNS)))
    found[:, SIZE] = sizes
    return found


def dense(low: float, high: float) -> NDArray[np.float64]:
    return np.arange(low, high, 0.05)


@given(st.floats(6.3, 8.7))
def test_a_size_between_two_measured_ranges_is_extrapolated(size: float) -> None:
    box = validity_box(rows(np.concatenate([dense(4, 6), dense(9, 12)])))
    assert box.outside(rows(np.array([size]))).all()


def test_nothing_that_was_measured_is_extrapolated() -> None:
    seen = rows(np.concatenate([dense(4, 6), dense(9, 12)]))
    assert not validity_box(seen).outside(seen).any()


def test_few_measurements_far_apart_have_no_holes() -> None:
    sparse = np.arange(4, 16, 1.0)
    assert not validity_box(rows(sparse)).outside(rows(sparse[:-1] + 0.5)).any()


def test_a_kind_that_was_never_measured_is_extrapolated() -> None:
    other = rows(dense(4, 12))
    other[:, COLUMN["kind"]] = 3
    assert validity_box(rows(dense(4, 12))).outside(other).all()


def test_the_box_survives_its_dictionary() -> None:
    box = validity_box(rows(np.concatenate([dense(4, 6), dense(9, 12)])))
    assert box.holes
    assert box_from_dict(box.as_dict()) == ValidityBox(box.ranges, box.holes)
