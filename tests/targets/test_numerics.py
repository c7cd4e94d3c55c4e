"""RESCALE and clamps on arrays equal the TOSA formula on Python integers, whichever path evaluates them."""

import numpy as np
import pytest
from engine_programs import clamp, rescale
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import ProgramFault
from lanefit.targets.numerics import Stage

multipliers = st.integers(1, 2**31 - 1) | st.sampled_from([1, 2**30, 2**31 - 1])
shifts = st.integers(2, 62) | st.sampled_from([31, 42, 43, 44, 53, 62])


@settings(max_examples=300)
@given(st.data(), multipliers, shifts, st.integers(-128, 127), st.integers(-(2**20), 2**20))
def test_output_stage_is_exact(data: st.DataObject, multiplier: int, shift: int, zero_point: int, bias: int) -> None:
    limit = min(2**31 - 1 - abs(bias), ((2**31 - 1) << shift) // multiplier - abs(bias))
    if limit < 0:
        return
    near = [
        clamp((k * 2**shift + 2 ** (shift - 1)) // multiplier - bias + d, -limit, limit)
        for k in (-129, 0, 5)
        for d in (0, 1)
    ]
    values = data.draw(st.lists(st.integers(-limit, limit), max_size=5)) + near
    stage = Stage(np.array([bias]), np.array([multiplier]), np.array([shift]), zero_point, -128, 127)
    expected = [clamp(rescale(v + bias, multiplier, shift) + zero_point, -128, 127) for v in values]
    for bound in (limit, max(map(abs, values))):  # the tighter one lets more cases through float64
        assert stage.apply(np.array(values, np.float64), bound).tolist() == expected
        assert stage.apply(np.array(values), bound).tolist() == expected


def test_channels_have_their_own_scales() -> None:
    stage = Stage(np.array([0, 10]), np.array([2**30, 2**30]), np.array([30, 31]), 1, -128, 127)
    assert stage.apply(np.array([[3.0, 3.0], [-4.0, -13.0]]), 13).tolist() == [[4, 8], [-3, 0]]


@pytest.mark.parametrize("value", [2.0**24, -(2.0**24)])
def test_results_beyond_int32_are_a_fault(value: float) -> None:
    stage = Stage.of(2**31 - 1, 8, 0, -128, 127)
    with pytest.raises(ProgramFault, match="RESCALE overflows int32"):
        stage.apply(np.array([value]), 2**24)


def test_bounds_that_no_value_reaches_do_no_harm() -> None:
    stage = Stage.of(2**31 - 1, 8, 0, -128, 127)
    assert stage.apply(np.array([0.0, 1.0, -1.0]), 2**31 - 1).tolist() == [0, 127, -128]
