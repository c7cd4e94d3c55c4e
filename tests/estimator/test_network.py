"""The engine's estimator sits the exam of every estimator, and meets the compiled program."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from estimator.estimator_conformance import Estimator, EstimatorConformance
from estimator.sample_graphs import conv_graph, sample_graphs, small_estimator

from lanefit.common.errors import UnsupportedError
from lanefit.estimator.metrics import accuracy
from lanefit.estimator.network import NetworkEstimator
from lanefit.estimator.regressor import PhysicsRegressor
from lanefit.export.blank import with_zero_weights
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph
from lanefit.targets.spec import load_spec


class TestNetworkEstimator(EstimatorConformance):
    @pytest.fixture
    def estimator(self) -> NetworkEstimator:
        return small_estimator()

    @pytest.fixture
    def fresh(self, estimator: NetworkEstimator) -> Callable[[], Estimator]:
        return lambda: NetworkEstimator(estimator.spec, estimator.regressor, estimator.card)

    @pytest.fixture
    def load(self) -> Callable[[Path], Estimator]:
        return lambda path: NetworkEstimator.load(path, load_spec("ne-256"))

    @pytest.fixture
    def graphs(self) -> list[Graph]:
        return sample_graphs(5, seed=2)

    @pytest.fixture
    def growing(self) -> list[Graph]:
        return [conv_graph(channels) for channels in range(16, 129, 16)]

    @pytest.fixture
    def refused(self) -> list[tuple[Graph, str]]:
        return [(conv_graph(40_000, size=1), "first")]  # one output channel's weights exceed the SRAM


def test_latency_meets_the_cycle_model_of_unseen_networks() -> None:
    estimator, graphs = small_estimator(), sample_graphs(12, seed=3)
    measured = [compile_graph(with_zero_weights(graph), estimator.spec).latency_us for graph in graphs]
    found = accuracy([estimate.latency_us for estimate in estimator.estimate_many(graphs)], measured)
    assert found.acc10 == 1.0
    assert found.spearman >= 0.98


def test_bytes_and_macs_are_those_of_the_compiled_program() -> None:
    estimator = small_estimator()
    for graph in sample_graphs(6, seed=4):
        found, compiled = estimator.estimate(graph), compile_graph(with_zero_weights(graph), estimator.spec)
        assert found.sram_bytes == compiled.sram_bytes
        assert found.weight_bytes == compiled.weight_bytes
        assert found.dram_bytes == compiled.dram_bytes
        assert found.macs == sum(part.macs for part in compiled.report)
        assert [part.label for part in found.parts] == [part.label for part in compiled.report]


def test_a_kind_that_was_never_measured_is_named() -> None:
    estimator = small_estimator()
    model, latency = estimator.regressor, estimator.regressor.regressors["latency"]
    state = latency.fitted_state()
    state["efficiency"].pop(str(latency.kinds.index("conv2d")))
    partial = PhysicsRegressor(**latency.get_params()).restore(state)
    forgetful = replace(model, regressors={**model.regressors, "latency": partial})
    with pytest.raises(UnsupportedError, match="no measurement of conv2d"):
        NetworkEstimator(estimator.spec, forgetful, estimator.card).estimate(conv_graph(16))


def test_sizes_beyond_the_measured_ones_are_flagged_and_bounded_more_widely() -> None:
    estimator = small_estimator()
    near, far = estimator.estimate(sample_graphs(1, seed=1)[0]), estimator.estimate(conv_graph(320, size=40))
    assert far.extrapolated
    assert far.latency_upper_us >= sum(part.latency_upper_us for part in far.parts) * (1 - 1e-9)
    assert near.latency_upper_us == pytest.approx(near.latency_us * estimator.card.network_upper) or near.extrapolated


def test_an_engine_without_room_for_a_node_names_it() -> None:
    estimator = small_estimator()
    tiny = replace(estimator.spec, name="tiny", sram_bytes=1024)
    with pytest.raises(UnsupportedError, match="smallest tile"):
        NetworkEstimator(tiny, estimator.regressor, estimator.card).estimate(conv_graph(256))
