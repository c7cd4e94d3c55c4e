"""Real scales become TOSA RESCALE operands, or are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import UnsupportedError
from lanefit.kernels.rescale import add_operands, rescale_operands


@given(st.floats(1e-9, 1e8))
def test_multiplier_over_two_to_the_shift_is_the_scale(scale: float) -> None:
    multiplier, shift = rescale_operands(scale)
    assert 1 <= multiplier < 2**31
    assert 2 <= shift <= 62
    assert multiplier / 2**shift == pytest.approx(scale, rel=1e-3 if scale < 1e-6 else 2**-30)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30])
def test_a_scale_that_no_rescale_expresses_is_refused(scale: float) -> None:
    with pytest.raises(UnsupportedError, match="scale"):
        rescale_operands(scale)


def test_operands_of_an_addition_meet_at_the_larger_scale_with_20_fraction_bits() -> None:
    (a, a_shift), (b, b_shift), _ = add_operands(0.5, 0.25, 1.0)
    assert a / 2**a_shift == 2**19
    assert b / 2**b_shift == 2**18
