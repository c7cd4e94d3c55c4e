import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import InputError
from lanefit.estimator.metrics import accuracy, relative_errors

positive = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=30)


@given(positive)
def test_perfect_predictions_have_no_error(values: list[float]) -> None:
    found = accuracy(values, values)
    assert (found.acc5, found.acc10, found.rmspe, found.count) == (1, 1, 0, len(values))


@given(positive, st.floats(1e-3, 1e3))
def test_figures_do_not_depend_on_the_unit(values: list[float], factor: float) -> None:
    measured = np.array(values)
    predicted = measured * np.linspace(0.8, 1.25, len(measured))
    assert accuracy(predicted * factor, measured * factor).rmspe == pytest.approx(accuracy(predicted, measured).rmspe)


def test_figures_of_a_worked_example() -> None:
    found = accuracy([104.0, 108.0, 130.0, 100.0], [100.0, 100.0, 100.0, 101.0])
    assert (found.acc5, found.acc10) == (0.5, 0.75)
    assert found.rmspe == pytest.approx(np.sqrt((0.04**2 + 0.08**2 + 0.3**2 + (1 / 101) ** 2) / 4))


def test_reversed_order_has_rank_correlation_minus_one() -> None:
    found = accuracy([3.0, 2.0, 1.0], [1.0, 2.0, 3.0])
    assert (found.spearman, found.kendall) == pytest.approx((-1, -1))


def test_an_undefined_correlation_is_zero() -> None:
    assert accuracy([1.0], [2.0]).spearman == 0
    assert accuracy([1.0, 1.0], [2.0, 3.0]).kendall == 0


@pytest.mark.parametrize(
    ("predicted", "measured"),
    [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([float("nan")], [1.0])],
    ids=["empty", "lengths", "zero", "nan"],
)
def test_values_that_cannot_be_compared_are_refused(predicted: list[float], measured: list[float]) -> None:
    with pytest.raises(InputError):
        relative_errors(predicted, measured)
