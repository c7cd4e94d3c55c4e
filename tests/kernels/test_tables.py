"""Integer tables and records are as near to the real functions as their bits allow."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import UnsupportedError
from lanefit.kernels import reference_functions as functions
from lanefit.kernels.function_ops import Norm, Reduce, Reduction, Resize, Scale, Softmax
from lanefit.kernels.reference import Stage
from lanefit.kernels.rescale import rescale_operands
from lanefit.kernels.tables import Exponentials, norm_epsilon, norm_records, unary_table

seeds = st.integers(0, 2**32 - 1)


def draw(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """int8 elements from a random part of the range, so that variances are small and large."""
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.integers(-128, 128, 2))
    return rng.integers(low, high + 1, shape).astype(np.int8)


def stored(real: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """Quantised, not yet rounded."""
    return np.clip(real / scale + zero, -128, 127)


@given(
    seeds,
    st.sampled_from([1, 2, 3, 7, 32, 300]),
    st.floats(1e-4, 10),
    st.floats(0, 1e-2),
    st.floats(0.002, 0.5),
    st.booleans(),
)
def test_a_normalisation_is_within_one_step_of_float64(
    seed: int, group: int, scale: float, epsilon: float, out: float, over_map: bool
) -> None:
    op, rng = Norm((2, 3, 2 * group), 2, over_map), np.random.default_rng(seed)
    x, zero = draw(seed, (1, 2, 3, 2 * group)), int(rng.integers(-128, 128))
    gamma, beta = rng.normal(0, 2, 2 * group), rng.normal(0, 2, 2 * group)
    records = norm_records(op, gamma, beta, out)
    found = functions.norm(x, op, norm_epsilon(op, epsilon, scale), records, zero, (-128, 127))
    real = (x.astype(np.float64) * scale).reshape(1, 2, 3, 2, group)
    axes = (1, 2, 4) if over_map else (4,)
    deviation = np.sqrt(real.var(axis=axes, keepdims=True) + epsilon)
    centred = np.where(deviation > 1e-12, real - real.mean(axis=axes, keepdims=True), 0)
    y = (centred / np.maximum(deviation, 1e-300)).reshape(x.shape) * gamma + beta
    assert np.abs(found - stored(y, out, zero)).max() <= 0.51


@given(seeds, st.integers(1, 300), st.floats(1e-3, 1))
def test_a_softmax_is_within_one_step_of_float64(seed: int, count: int, scale: float) -> None:
    x = draw(seed, (1, 1, 1, count))
    stage = Stage(*rescale_operands(2.0**-15 * 256), -128)
    found = functions.softmax(x, Exponentials.of(scale), stage)
    powers = np.exp((x.astype(np.float64) - x.max()) * scale)
    assert np.abs(found - stored(powers / powers.sum(), 1 / 256, -128)).max() <= 1.0


@given(st.floats(1e-3, 0.1), st.integers(-128, 127), st.integers(-128, 127))
def test_a_table_rounds_the_function_at_every_input(scale: float, zero: int, zero_out: int) -> None:
    table = unary_table(np.tanh, (scale, zero), (1 / 128, zero_out))
    exact = [math.tanh((q - zero) * scale) * 128 + zero_out for q in range(-128, 128)]
    assert np.abs(table - np.clip(exact, -128, 127)).max() <= 0.5 + 1e-9


def test_a_table_saturates_where_the_function_is_infinite_and_needs_a_value_everywhere() -> None:
    with np.errstate(divide="ignore"):
        assert unary_table(np.exp, (100.0, 0), (1.0, 0))[-1] == 127
        assert unary_table(lambda x: 1 / np.abs(x), (1.0, 0), (1.0, 0))[128] == 127
    with pytest.raises(UnsupportedError, match="no value"), np.errstate(invalid="ignore"):
        unary_table(np.sqrt, (1.0, 0), (1.0, 0))


def test_exponentials_are_those_of_the_distance() -> None:
    powers = Exponentials.of(0.01)
    assert len(powers.as_bytes()) == 1024
    for distance in (0, 1, 255, 256, 300, 65535):
        product = int(powers.coarse[distance >> 8]) * int(powers.fine[distance & 255]) / 2**30
        assert product == pytest.approx(math.exp(-0.01 * distance), abs=2.0**-13)


def test_scales_of_a_normalisation_keep_their_sign_and_vanish_with_zero() -> None:
    records = norm_records(Norm((1, 1, 3)), np.array([1.0, -1.0, 0.0]), np.zeros(3), 0.05)
    assert records.multiplier[0] == -records.multiplier[1] > 0
    assert records.multiplier[2] == 0


def test_normalisations_beyond_their_integers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="beyond int32"):
        norm_records(Norm((1, 1, 3)), np.ones(3), np.zeros(3), 1e-8)
    with pytest.raises(UnsupportedError, match="epsilon"):
        norm_epsilon(Norm((1, 1, 300)), 1.0, 1e-9)
    with pytest.raises(UnsupportedError, match="3 groups"):
        Norm((4, 4, 8), 3)
    with pytest.raises(UnsupportedError, match="at most 65536 elements, got 65792"):
        Norm((257, 256, 1), over_map=True)
    with pytest.raises(UnsupportedError, match="softmax"):
        Softmax((1, 1, 2**16 + 1))


def test_resizes_and_reductions_that_leave_their_map_are_refused() -> None:
    one = Scale(1, 1)
    for scale, what in (
        (Scale(1, 2), "leaves a map of 4"),
        (Scale(1, 1, -2), "beyond TOSA"),
        (Scale(4000, 1), "beyond TOSA"),
    ):
        with pytest.raises(UnsupportedError, match=what):
            Resize((4, 4, 2), (4, 4, 2), scale, one, bilinear=True)
    with pytest.raises(UnsupportedError, match="crops a map of 64"):
        Resize((64, 4, 2), (4, 4, 2), one, one, bilinear=True)
    with pytest.raises(UnsupportedError, match="keeps the channels"):
        Resize((4, 4, 2), (4, 4, 3), one, one, bilinear=True)
    with pytest.raises(UnsupportedError, match="no reduction"):
        Reduce((4, 4, 6), (4, 4, 4), Reduction.SUM)


@pytest.mark.parametrize(("size", "factor"), [(5, 2), (8, 3), (3, 4)])
def test_a_bilinear_resize_with_half_pixel_centres_is_that_of_torch(size: int, factor: int) -> None:
    import torch

    scale = Scale(2 * factor, 2, 1 - factor)
    op = Resize((size, size, 3), (size * factor, size * factor, 3), scale, scale, bilinear=True)
    x = draw(size, (1, size, size, 3))
    found = functions.resize(x, op, 0, Stage(*rescale_operands(1 / (2 * factor) ** 2), 0))
    real = torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(real, scale_factor=factor, mode="bilinear").permute(0, 2, 3, 1).numpy()
    assert np.abs(found - wanted).max() <= 0.5 + 1e-4
