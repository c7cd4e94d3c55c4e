from __future__ import annotations

import numpy as np
import pytest

from lanefit.estimator.devices.robust import student_doubt


def test_clean_errors_count_nearly_alike() -> None:
    error = np.random.default_rng(0).normal(0, 0.03, 400)
    doubt = student_doubt(error)
    assert np.quantile(doubt, 0.95) < 1.6


@pytest.mark.parametrize("place", [0.0, -0.1])
def test_a_slow_mode_counts_less_wherever_the_fit_lies(place: float) -> None:
    generator = np.random.default_rng(1)
    slow = generator.random(400) < 0.35
    error = place + generator.normal(0, 0.01, 400) + 0.3 * slow
    doubt = student_doubt(error)
    assert np.median(doubt[slow]) > 30 * np.median(doubt[~slow])


def test_the_unit_of_errors_does_not_matter() -> None:
    error = np.random.default_rng(2).standard_t(2, 300) * 0.05
    np.testing.assert_allclose(student_doubt(error), student_doubt(error * 3), rtol=0.02)


def test_errors_of_zero_are_no_trouble() -> None:
    np.testing.assert_allclose(student_doubt(np.zeros(20)), 1.0)
