"""Laws of the law: waves, monotonicity, units, the gradient that fits it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_device import convolution, device_us, random_operators
from scipy.optimize import check_grad

from lanefit.common.errors import ConfigError, EstimatorError
from lanefit.estimator.devices import tactics
from lanefit.estimator.devices.machine import Machine, machine_from_dict
from lanefit.estimator.devices.shapes import shape_matrix
from lanefit.estimator.devices.tactics import Law, fit_law, gemm_work, law_from_list, stream_work, tile_areas

MACHINE = Machine(24, 4)


@pytest.fixture(scope="module")
def law() -> Law:
    operators = random_operators(400, 0, depthwise=0)
    areas = tile_areas(MACHINE, stream=False)
    return fit_law(gemm_work(shape_matrix(operators), MACHINE), areas, device_us(operators))[0]


def latency(law: Law, *operators: object) -> np.ndarray:
    return np.exp(law.evaluate(gemm_work(shape_matrix(list(operators)), MACHINE))[0])  # type: ignore[arg-type]


def test_the_law_of_tactics_explains_a_tiled_device_that_it_has_not_seen(law: Law) -> None:
    operators = random_operators(400, 1, depthwise=0)
    error = np.abs(latency(law, *operators) / device_us(operators, seed=1) - 1)
    assert np.mean(error < 0.1) > 0.85


@settings(max_examples=40)
@given(st.sampled_from([1, 3, 5]), st.integers(1, 500), st.integers(4, 100), st.integers(1, 500))
def test_more_work_never_takes_less_time(law: Law, kernel: int, channels: int, extent: int, filters: int) -> None:
    small = convolution(1, channels, extent, filters, kernel)
    larger = [
        convolution(2, channels, extent, filters, kernel),
        convolution(1, channels + 8, extent, filters, kernel),
        convolution(1, channels, extent + 4, filters, kernel),
        convolution(1, channels, extent, filters + 8, kernel),
    ]
    found = latency(law, small, *larger)
    assert (found[1:] >= found[0] * (1 - 1e-9)).all()


def test_the_gradient_is_that_of_the_law() -> None:
    operators = random_operators(60, 2, depthwise=0)
    work, areas = gemm_work(shape_matrix(operators), MACHINE), tile_areas(MACHINE, stream=False)
    pull = np.random.default_rng(0).normal(size=len(operators))
    start = tactics._start(work, areas, device_us(operators)) + 0.1 * np.random.default_rng(1).normal(size=4 * 26 + 9)
    value = lambda c: float((tactics._evaluate(c, work).log_latency * pull).sum())  # noqa: E731
    slope = lambda c: tactics._gradient(c, work, pull)  # noqa: E731
    assert check_grad(value, slope, start, epsilon=1e-6) < 1e-3


def test_the_law_does_not_depend_on_the_unit_of_time() -> None:
    operators = random_operators(150, 3, depthwise=0)
    work, areas = gemm_work(shape_matrix(operators), MACHINE), tile_areas(MACHINE, stream=False)
    fits = [fit_law(work, areas, device_us(operators) * factor, iterations=40) for factor in (1.0, 1e-3)]
    here, there = (found.evaluate(work)[0] for found, _ in fits)
    assert np.allclose(here - there, np.log(1e3), atol=0.02)


def test_streams_of_elements_have_a_law_too() -> None:
    operators = random_operators(300, 4, depthwise=1)
    work = stream_work(shape_matrix(operators), MACHINE)
    found, _ = fit_law(work, tile_areas(MACHINE, stream=True), device_us(operators))
    error = np.abs(np.exp(found.evaluate(work)[0]) / device_us(operators) - 1)
    assert np.mean(error < 0.15) > 0.8


def test_a_winograd_tactic_applies_to_three_by_three_windows_of_stride_one_only(law: Law) -> None:
    operators = [convolution(1, 64, 28, 64, 3), convolution(1, 64, 28, 64, 3, 2), convolution(1, 64, 28, 64, 5)]
    _, times = law.evaluate(gemm_work(shape_matrix(operators), MACHINE))
    assert np.isfinite(times[0]).all()
    assert np.isinf(times[1:, -3:]).all()


def test_a_machine_survives_its_dictionary_and_refuses_nonsense() -> None:
    assert machine_from_dict(MACHINE.as_dict()) == MACHINE
    with pytest.raises(ConfigError):
        Machine(0)
    with pytest.raises(EstimatorError, match="malformed machine"):
        machine_from_dict({"units": 3})


def test_constants_of_another_machine_are_refused(law: Law) -> None:
    with pytest.raises(EstimatorError, match="malformed law"):
        law_from_list(law.constants.tolist(), tile_areas(MACHINE, stream=True))
