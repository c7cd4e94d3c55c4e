"""A device fitted from operators, from networks, and from both."""

from collections.abc import Callable

import numpy as np
import pytest
from kernel_device import device_us, network_us, random_networks, random_operators

from lanefit.common.errors import EstimatorError, TableError, UnsupportedError
from lanefit.estimator.devices.estimator import DeviceEstimator
from lanefit.estimator.devices.fitting import DeviceFit, MeasuredNetwork, Measurements, fit_device, refuse_unit_slips
from lanefit.estimator.devices.machine import Machine
from lanefit.estimator.devices.scale import fit_scale, plain_scale, scale_from_dict, scale_row
from lanefit.estimator.tables.kernels import KernelTime

MACHINE = Machine(24)


def kernel_times(count: int = 300) -> tuple[KernelTime, ...]:
    operators = random_operators(count, 0, depthwise=0)
    pairs = zip(operators, device_us(operators).tolist(), strict=True)
    return tuple(KernelTime(operator, latency, row) for row, (operator, latency) in enumerate(pairs, 2))


def network_times(count: int, seed: int = 0) -> tuple[MeasuredNetwork, ...]:
    return tuple(MeasuredNetwork(f"n{i}", g, network_us(g)) for i, g in enumerate(random_networks(count, seed)))


@pytest.fixture(scope="module")
def both() -> DeviceFit:
    measurements = Measurements(kernel_times(), network_times(20), {"kernels.csv": 300, "networks.csv": 20})
    return fit_device("board", measurements, machine=MACHINE, trees=20)


def errors(estimator: DeviceEstimator, truth: Callable[..., float] = network_us) -> np.ndarray:
    graphs = random_networks(40, 9)
    return np.array([estimator.estimate(graph).latency_us / truth(graph) - 1 for graph in graphs])


def test_a_few_networks_say_what_the_sum_of_operators_misses(both: DeviceFit) -> None:
    assert np.mean(np.abs(errors(both.estimator)) < 0.1) > 0.9
    assert both.estimator.card.networks is not None
    assert both.estimator.card.networks.count == 20


def test_intervals_of_networks_hold_the_measurement(both: DeviceFit) -> None:
    found = [(both.estimator.estimate(graph), network_us(graph)) for graph in random_networks(40, 9)]
    assert np.mean([e.lower_us <= m <= e.upper_us for e, m in found]) > 0.7


def test_an_operator_that_only_networks_contain_is_never_free(both: DeviceFit) -> None:
    parts = both.estimator.estimate(random_networks(1, 5)[0]).parts
    (pool,) = [part for part in parts if not part.alone]
    assert pool.operator.kind == "global-pool"
    assert pool.latency_us > 0


def test_an_operator_that_nothing_contains_is_refused() -> None:
    alone = fit_device("board", Measurements(kernel_times(40)), machine=MACHINE, trees=20).estimator
    with pytest.raises(UnsupportedError, match="no global-pool int8 was measured"):
        alone.estimate(random_networks(1, 5)[0])


def test_a_measured_network_is_recognised(both: DeviceFit) -> None:
    graph = random_networks(20, 0)[3]
    assert both.estimator.estimate(graph).measured_us == pytest.approx(network_us(graph))
    assert both.estimator.estimate(random_networks(1, 77)[0]).measured_us is None


def test_the_card_says_what_the_fit_rests_on(both: DeviceFit) -> None:
    card = both.estimator.card
    assert (card.target, dict(card.sources)) == ("board", {"kernels.csv": 300, "networks.csv": 20})
    assert card.kernels["all"].count == 300
    assert card.box["conv int8"]["taps"] == [1.0, 25.0]
    assert [name for name, _ in card.rows()] == ["conv int8", "all operators", "networks"]


def test_fitting_again_gives_the_same_hash_whatever_the_order() -> None:
    kernels, networks = kernel_times(30), network_times(4)
    here = Measurements(kernels, networks).digest()
    assert Measurements(kernels[::-1], networks[::-1]).digest() == here
    assert Measurements(kernels[1:], networks).digest() != here


def test_networks_alone_are_enough_when_there_are_many() -> None:
    fit = fit_device("board", Measurements((), network_times(60)))
    assert np.mean(np.abs(errors(fit.estimator)) < 0.1) > 0.8
    assert fit.estimator.card.networks is not None


@pytest.mark.parametrize(
    ("kernels", "networks", "message"), [(5, 0, "5 measured operators"), (0, 3, "3 measured networks")]
)
def test_too_few_measurements_are_refused(kernels: int, networks: int, message: str) -> None:
    with pytest.raises(EstimatorError, match=message):
        fit_device("board", Measurements(kernel_times(kernels), network_times(networks)))


def test_rows_in_another_unit_are_refused_by_number() -> None:
    kernels = list(kernel_times(200))
    kernels[7] = KernelTime(kernels[7].operator, kernels[7].latency_us * 1e3, 9)
    kernels[90] = KernelTime(kernels[90].operator, kernels[90].latency_us / 1e3, 92)
    with pytest.raises(TableError, match="rows 9, 92"):
        fit_device("board", Measurements(tuple(kernels)), machine=MACHINE, trees=20)


def test_honest_errors_are_no_unit_slips() -> None:
    kernels = kernel_times(50)
    truth = np.array([kernel.latency_us for kernel in kernels])
    refuse_unit_slips(kernels, truth * np.geomspace(0.1, 10, 50))


def test_without_networks_a_network_is_the_sum_of_its_operators() -> None:
    rows = np.array([scale_row(np.array([3.0, 4.0]), ())])
    assert plain_scale().network_us(rows) == pytest.approx([7.0])


def test_costs_of_networks_are_recovered() -> None:
    rng = np.random.default_rng(0)
    rows = np.array([scale_row(rng.uniform(5, 90, int(rng.integers(3, 30))), ()) for _ in range(40)])
    truth = 0.8 * rows[:, 0] + 2.0 * rows[:, 1] + 40
    scale, left_out = fit_scale(rows, truth, fastest_us=5.0)
    assert np.abs(left_out / truth - 1).max() < 0.05
    assert scale_from_dict(scale.as_dict()) == scale


@pytest.mark.parametrize("value", [{}, {"costs": [1.0], "others": []}, {"costs": [-1.0] * 6, "others": []}])
def test_malformed_scales_are_refused(value: dict) -> None:
    with pytest.raises(EstimatorError, match="malformed scale"):
        scale_from_dict(value)
