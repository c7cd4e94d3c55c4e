"""The integer reference against plain loops over Python integers, and against its own laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import ProgramFault
from lanefit.kernels import reference
from lanefit.kernels.ops import Window
from lanefit.kernels.reference import Stage
from lanefit.kernels.rescale import add_operands, rescale_operands

seeds = st.integers(0, 2**32 - 1)


def _maps(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def _rescaled(value: int, multiplier: int, shift: int) -> int:
    return (value * multiplier + (1 << (shift - 1))) >> shift


def _clamped(value: int, clamp: tuple[int, int]) -> int:
    return min(max(value, clamp[0]), clamp[1])


def _window(rng: np.random.Generator) -> tuple[Window, tuple[int, int], tuple[int, int]]:
    kernel = [int(v) for v in rng.integers(1, 4, 2)]
    stride = [int(v) for v in rng.integers(1, 3, 2)]
    pad = [int(rng.integers(0, k)) for k in kernel]
    size = [int(v) for v in rng.integers(3, 7, 2)]
    out = [(size[i] + 2 * pad[i] - kernel[i]) // stride[i] + 1 for i in range(2)]
    return Window(*kernel, *stride, *pad), (size[0], size[1]), (out[0], out[1])


@settings(max_examples=40, deadline=None)
@given(seeds, st.booleans())
def test_convolution_equals_loops_over_python_integers(seed: int, depthwise: bool) -> None:
    rng = np.random.default_rng(seed)
    window, size, out = _window(rng)
    channels, outputs = (3, 3) if depthwise else (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    x, zero = _maps(rng, 2, *size, channels), int(rng.integers(-128, 128))
    weights = _maps(rng, outputs, window.kernel_h, window.kernel_w, 1 if depthwise else channels)
    bias = rng.integers(-5000, 5000, outputs).astype(np.int32)
    pairs = np.array([rescale_operands(float(s)) for s in rng.uniform(1e-4, 1e-2, outputs)])
    stage = Stage(pairs[:, 0], pairs[:, 1], int(rng.integers(-20, 20)), (-100, 90))
    got = reference.conv2d(x, zero, weights, bias, window, out, stage, depthwise=depthwise)
    for n, r, c, k in np.ndindex(*got.shape):
        total = int(bias[k])
        for y, z in np.ndindex(window.kernel_h, window.kernel_w):
            row, col = r * window.stride_h - window.pad_h + y, c * window.stride_w - window.pad_w + z
            if 0 <= row < size[0] and 0 <= col < size[1]:
                inputs = [k] if depthwise else range(channels)
                total += sum((int(x[n, row, col, i]) - zero) * int(weights[k, y, z, j]) for j, i in enumerate(inputs))
        expected = _rescaled(total, int(pairs[k, 0]), int(pairs[k, 1])) + stage.zero_point
        assert got[n, r, c, k] == _clamped(expected, stage.clamp)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_pools_equal_loops_over_python_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window, size, out = _window(rng)
    x, zero = _maps(rng, 1, *size, 2), int(rng.integers(-128, 128))
    stage = Stage(*rescale_operands(0.7 / window.taps), 3)
    largest = reference.max_pool(x, window, out, (-90, 120))
    mean = reference.average_pool(x, zero, window, out, stage)
    for _, r, c, k in np.ndindex(*largest.shape):
        top, left = r * window.stride_h - window.pad_h, c * window.stride_w - window.pad_w
        patch = x[0, max(top, 0) : top + window.kernel_h, max(left, 0) : left + window.kernel_w, k].astype(int)
        assert largest[0, r, c, k] == _clamped(int(patch.max()), (-90, 120))
        total = int((patch - zero).sum())
        assert mean[0, r, c, k] == _clamped(_rescaled(total, int(stage.multiplier), int(stage.shift)) + 3, stage.clamp)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_addition_is_within_one_step_of_the_real_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scales = [float(s) for s in rng.uniform(0.01, 0.1, 3)]
    zeros = [int(z) for z in rng.integers(-128, 128, 3)]
    a, b = _maps(rng, 1, 4, 4, 3), _maps(rng, 1, 4, 4, 3)
    left, right, total = add_operands(*scales)
    got = reference.add(a, b, (zeros[0], zeros[1]), (left, right), Stage(*total, zeros[2]))
    real = scales[0] * (a.astype(float) - zeros[0]) + scales[1] * (b.astype(float) - zeros[1])
    exact = np.clip(real / scales[2] + zeros[2], -128, 127)
    assert np.abs(got - exact).max() <= 0.5 + 1e-3


@given(seeds, st.integers(-128, 127))
def test_requantisation_to_the_same_scale_changes_nothing(seed: int, zero: int) -> None:
    x = _maps(np.random.default_rng(seed), 1, 3, 3, 2)
    np.testing.assert_array_equal(reference.requantise(x, zero, Stage(*rescale_operands(1.0), zero)), x)


@given(st.integers(-(2**31) + 1, 2**31 - 1), st.floats(1e-12, 1e3))
def test_rescale_rounds_to_nearest_with_ties_upwards(value: int, scale: float) -> None:
    multiplier, shift = rescale_operands(scale)
    got = int(reference.rescale(np.array([value]), multiplier, shift)[0])
    doubled = 2 * value * multiplier + 2**shift  # floor(x + 1/2) in exact integers
    assert got == doubled // 2 ** (shift + 1)


def test_an_accumulator_beyond_int32_is_refused_and_not_wrapped() -> None:
    x, weights = np.full((1, 1, 1, 1), 127, np.int8), np.full((1, 1, 1, 1), 127, np.int8)
    bias = np.array([2**31 - 1], np.int32)
    with pytest.raises(ProgramFault, match="leaves int32"):
        reference.conv2d(x, 0, weights, bias, Window(1, 1), (1, 1), Stage(*rescale_operands(1e-6), 0))
