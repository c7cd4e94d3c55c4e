from __future__ import annotations

import json

import numpy as np
import pytest
from estimator.live.synthetic import chain_graph, true_latency_us, unoptimised
from numpy.typing import NDArray

from lanefit.common.errors import EstimatorError
from lanefit.estimator.live.additive import AdditiveModel, fit_additive
from lanefit.estimator.live.choice import choose
from lanefit.estimator.live.executed import ExecutedGraph, ExecutedNode, ExecutedOperator, Value
from lanefit.estimator.live.memory import terms
from lanefit.estimator.live.operator_costs import Sum, sum_from_dict

CACHES = (2**20,)


def random_graph(generator: np.random.Generator, length: int) -> ExecutedGraph:
    size, channels = int(generator.choice([7, 14, 28])), int(generator.choice([16, 32, 64]))
    layers = []
    for _ in range(length):
        made = int(generator.choice([16, 24, 32, 48, 64, 96]))
        layers.append((channels, made, int(generator.choice([1, 3])), size))
        channels = made
    return chain_graph(layers)


def as_sum(graph: ExecutedGraph) -> Sum:
    return Sum(tuple(terms(graph.nodes, CACHES)), 2)


@pytest.fixture(scope="module")
def model() -> AdditiveModel:
    generator = np.random.default_rng(0)
    graphs = [random_graph(generator, int(generator.integers(1, 5))) for _ in range(120)]
    noise = np.exp(0.01 * generator.standard_normal(len(graphs)))
    return fit_additive(
        [as_sum(g) for g in graphs], [true_latency_us(g) * n for g, n in zip(graphs, noise, strict=True)]
    )


def test_networks_are_predicted_from_pieces_alone(model: AdditiveModel) -> None:
    generator = np.random.default_rng(1)
    networks = [random_graph(generator, 20) for _ in range(40)]
    predicted, deviation = model.predict([as_sum(g) for g in networks])
    measured = np.array([true_latency_us(g) for g in networks])
    assert np.max(np.abs(predicted / measured - 1)) < 0.05
    assert np.mean(np.abs(predicted - measured) <= 1.645 * deviation) >= 0.9


def test_a_batch_is_predicted_like_its_members(model: AdditiveModel) -> None:
    sums = [as_sum(random_graph(np.random.default_rng(seed), 6)) for seed in range(4)]
    together = model.predict(sums)
    alone = [model.predict([one]) for one in sums]
    np.testing.assert_allclose(together[0], [mean[0] for mean, _ in alone])
    np.testing.assert_allclose(together[1], [deviation[0] for _, deviation in alone])


def test_an_operator_of_a_kind_never_measured_costs_something_and_widens_the_interval(model: AdditiveModel) -> None:
    graph = random_graph(np.random.default_rng(5), 6)
    for node in graph.model.graph.node[:3]:
        node.op_type = "ConvTranspose" if node.op_type == "Conv" else node.op_type
    known = as_sum(random_graph(np.random.default_rng(5), 6))
    strange = Sum(
        tuple(
            type(t)(
                type(t.operator)(f"org.example.{t.operator.kind}", t.operator.inputs, t.operator.outputs),
                t.distant_bytes,
            )
            for t in known.terms
        ),
        2,
    )
    (usual, odd), (sure, unsure) = model.predict([known, strange])
    assert odd > 0.2 * usual
    assert unsure / odd > sure / usual


def test_more_operators_never_cost_less(model: AdditiveModel) -> None:
    graph = random_graph(np.random.default_rng(7), 12)
    sums = [Sum(as_sum(graph).terms[:count], 2) for count in range(1, 13)]
    predicted, _ = model.predict(sums)
    assert (np.diff(predicted) > 0).all()


def test_a_disturbed_measurement_does_not_spoil_the_others() -> None:
    generator = np.random.default_rng(0)
    graphs = [random_graph(generator, int(generator.integers(1, 5))) for _ in range(80)]
    latencies = [true_latency_us(g) for g in graphs]
    for spoiled in (3, 40, 77):
        latencies[spoiled] *= 6
    found = fit_additive([as_sum(g) for g in graphs], latencies)
    networks = [random_graph(generator, 20) for _ in range(20)]
    predicted, _ = found.predict([as_sum(g) for g in networks])
    assert np.max(np.abs(predicted / [true_latency_us(g) for g in networks] - 1)) < 0.06
    assert {3, 40, 77} == set(np.argsort(found.doubts)[-3:].tolist())


def test_too_few_or_impossible_measurements_are_refused() -> None:
    sums = [as_sum(random_graph(np.random.default_rng(seed), 2)) for seed in range(12)]
    with pytest.raises(EstimatorError, match="at least ten"):
        fit_additive(sums[:5], [1.0] * 5)
    with pytest.raises(EstimatorError, match="positive"):
        fit_additive(sums, [1.0] * 11 + [-1.0])


def test_a_sum_survives_its_dictionary() -> None:
    one = as_sum(random_graph(np.random.default_rng(3), 3))
    view = ExecutedOperator("Reshape", (Value((4, 4), "float32"),), (Value((16,), "float32"),))
    node = ExecutedNode("view", view, ("a",), ("b",))
    for total in (one, Sum(tuple(terms([node], CACHES)), 2), Sum(tuple(terms([node], CACHES)), 2, 1.0)):
        again = sum_from_dict(json.loads(json.dumps(total.as_dict())))
        assert again == total
        assert again.digest == total.digest
    with pytest.raises(EstimatorError, match="malformed"):
        sum_from_dict({"terms": [{}], "ports": 1, "cold": 0.0})


def remaining(prior: NDArray[np.float64], targets: NDArray[np.float64], rows: NDArray[np.float64]) -> float:
    joint = rows @ prior @ rows.T + 0.03**2 * np.eye(len(rows))
    link = targets @ prior @ rows.T
    return float(np.trace(targets @ prior @ targets.T - link @ np.linalg.solve(joint, link.T)))


def test_the_choice_is_the_greedy_optimum_and_beats_chance() -> None:
    generator = np.random.default_rng(2)
    factor = generator.standard_normal((12, 12))
    prior, targets = factor @ factor.T / 12, generator.dirichlet(np.ones(12), 6)
    candidates, measured = generator.dirichlet(0.3 * np.ones(12), 40), generator.dirichlet(np.ones(12), 3)
    picks = choose(targets, candidates, measured, prior, noise=0.03, count=6)
    assert len(set(picks)) == 6
    first = [remaining(prior, targets, np.vstack([measured, candidates[[i]]])) for i in range(40)]
    assert picks[0] == int(np.argmin(first))
    chosen = remaining(prior, targets, np.vstack([measured, candidates[picks]]))
    chance = [
        remaining(prior, targets, np.vstack([measured, candidates[generator.choice(40, 6, replace=False)]]))
        for _ in range(50)
    ]
    assert chosen < np.quantile(chance, 0.05)


def test_nothing_is_chosen_twice_even_when_all_candidates_are_asked_for() -> None:
    candidates = np.eye(4)
    picks = choose(np.full((1, 4), 0.25), candidates, np.zeros((0, 4)), np.eye(4), noise=0.1, count=9)
    assert sorted(picks) == [0, 1, 2, 3]


def test_synthetic_graphs_are_read_as_they_stand() -> None:
    graph = random_graph(np.random.default_rng(0), 3)
    assert [n.operator for n in unoptimised(graph.model).nodes] == [n.operator for n in graph.nodes]
