from __future__ import annotations

import numpy as np
import pytest
from estimator.devices.network_samples import additive_times, branching_counts
from numpy.typing import NDArray

from lanefit.common.errors import EstimatorError
from lanefit.estimator.devices.graph_arrays import GraphCounts
from lanefit.estimator.devices.network_model import NetworkModel, fit_networks
from lanefit.estimator.devices.transfer import fit_transfer
from lanefit.estimator.devices.transfer_choice import choose_samples
from lanefit.estimator.devices.transfer_prior import Known
from lanefit.estimator.metrics import accuracy

GRAPHS = branching_counts(160)
OTHERS = branching_counts(160, start=5000)


def new_device(graphs: list[GraphCounts]) -> NDArray[np.float64]:
    """Half the overhead of the source, convolutions three times as dear, and 2 % noise."""
    extra = [sum(2 * n * op.macs / 5000 for op, n in graph.operators.items()) for graph in graphs]
    noise = np.exp(np.random.default_rng(7).normal(0, 0.02, len(graphs)))
    return (additive_times(graphs, overhead_us=20.0) + np.array(extra)) * noise


@pytest.fixture(scope="module")
def source() -> NetworkModel:
    return fit_networks(GRAPHS[:80], additive_times(GRAPHS[:80])).model


def known(graphs: list[GraphCounts], source: NetworkModel | None) -> Known:
    said = np.zeros((len(graphs), 0)) if source is None else source.predict(graphs).latency[:, None]
    return Known(graphs, said)


def test_ten_samples_and_a_source_rank_a_new_device(source: NetworkModel) -> None:
    chosen = choose_samples({"a": GRAPHS}, 10)
    times, rest = new_device(GRAPHS), [i for i in range(len(GRAPHS)) if i not in chosen]
    model = fit_transfer({"a": known([GRAPHS[i] for i in chosen], source)}, times[list(chosen)], [source])
    found = accuracy(model.predict({"a": known([GRAPHS[i] for i in rest], source)}), times[rest])
    assert found.spearman > 0.97
    assert found.acc10 > 0.9


def test_physics_alone_ranks_a_new_device_without_any_source() -> None:
    times = new_device(GRAPHS)
    model = fit_transfer({"a": known(GRAPHS[:15], None)}, times[:15], [])
    assert accuracy(model.predict({"a": known(GRAPHS[15:], None)}), times[15:]).spearman > 0.95


def test_the_reading_that_explains_the_samples_gets_the_weight(source: NetworkModel) -> None:
    times = new_device(GRAPHS)[:12]
    samples = {"wrong": known(OTHERS[:12], None), "right": known(GRAPHS[:12], None)}
    readings = fit_transfer(samples, times, []).readings
    assert readings["right"] > 0.9
    assert sum(readings.values()) == pytest.approx(1)


def test_predictions_scale_with_the_measurements(source: NetworkModel) -> None:
    times, samples, rest = new_device(GRAPHS), known(GRAPHS[:10], source), known(GRAPHS[10:], source)
    one = fit_transfer({"a": samples}, times[:10], [source]).predict({"a": rest})
    other = fit_transfer({"a": samples}, times[:10] * 1e3, [source]).predict({"a": rest})
    np.testing.assert_allclose(other, one * 1e3, rtol=1e-6)
    assert (one > 0).all()


@pytest.mark.parametrize("latency", [[1.0, 2.0], [1.0, -1.0, 2.0], [1.0, float("nan"), 2.0]])
def test_what_is_no_basis_for_a_transfer_is_refused(latency: list[float]) -> None:
    with pytest.raises(EstimatorError):
        fit_transfer({"a": known(GRAPHS[: len(latency)], None)}, latency, [])
