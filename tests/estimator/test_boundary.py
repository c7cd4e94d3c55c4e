"""Durations of single steps compose to the time of the whole program."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from estimator.sample_graphs import FAMILY, sample_graphs

from lanefit.common.errors import UnsupportedError
from lanefit.estimator.boundary import step_cycles
from lanefit.estimator.decompose import decompose, workload
from lanefit.estimator.physics import Durations
from lanefit.estimator.runner import EngineRunner
from lanefit.export.graph import Graph
from lanefit.export.random_graphs import random_graph, random_spec
from lanefit.models.baselines import mobilenet_v2
from lanefit.nas.bridge import to_graph
from lanefit.targets.spec import EngineSpec, load_spec


def _measured_parts(graph: Graph, spec: EngineSpec) -> float:
    runner = EngineRunner(spec)
    steps = decompose(graph, spec).steps
    found = [runner.measure(workload(step)) for step in steps]
    return sum(step_cycles(steps, [Durations(m.latency, **m.phases) for m in found]))


@pytest.mark.parametrize("target", ["ne-64", "ne-256", "ne-1024"])
def test_measured_parts_compose_to_the_measured_network(target: str) -> None:
    spec = load_spec(target)
    for graph in sample_graphs(6, seed=5):
        assert _measured_parts(graph, spec) == pytest.approx(EngineRunner(spec).measure_network(graph), rel=0.01)


def test_parts_compose_where_maps_spill_and_stream() -> None:
    spec = replace(load_spec("ne-256"), name="ne-256-32k", sram_bytes=32 * 1024)
    for resolution in (128, 160):
        layers = FAMILY.layers(mobilenet_v2(0.5, resolution), input_channels=3, classes=10)
        graph = to_graph(layers)
        assert any(step.subgraph.streams for step in decompose(graph, spec).steps[1:-1])
        assert _measured_parts(graph, spec) == pytest.approx(EngineRunner(spec).measure_network(graph), rel=0.01)


def test_parts_compose_for_small_graphs_of_every_shape() -> None:
    """Not exact where stores queue behind the next step's weights on the DRAM channel, which few graphs have."""
    errors: list[float] = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng)
        spec = random_spec(rng, [load_spec("ne-256"), load_spec("ne-64")], graph)
        with suppress(UnsupportedError):  # the drawn SRAM is too small for a single tile
            measured = EngineRunner(spec).measure_network(graph)
            errors.append(abs(_measured_parts(graph, spec) / measured - 1))
    assert len(errors) > 100
    assert np.mean(np.array(errors) < 0.01) >= 0.98
    assert max(errors) < 0.05


def test_prefetch_and_drain_never_cost_time() -> None:
    spec = load_spec("ne-256")
    for graph in sample_graphs(4, seed=7):
        steps = decompose(graph, spec).steps
        runner = EngineRunner(spec)
        parts = [Durations(m.latency, **m.phases) for m in (runner.measure(workload(step)) for step in steps)]
        alone = [replace(step, ahead=0, drain=False) for step in steps]
        assert sum(step_cycles(steps, parts)) <= sum(step_cycles(alone, parts))
        assert sum(step_cycles(alone, parts)) == pytest.approx(sum(part.latency + part.tail for part in parts))
