from __future__ import annotations

import numpy as np
import pytest
from estimator.devices.network_samples import additive_times, branching_counts

from lanefit.common.errors import EstimatorError
from lanefit.estimator.devices.graph_arrays import GraphCounts
from lanefit.estimator.devices.transfer import fit_transfer
from lanefit.estimator.devices.transfer_choice import choose_samples
from lanefit.estimator.devices.transfer_prior import Known, Prior

GRAPHS = branching_counts(60)


def lighter(graph: GraphCounts) -> GraphCounts:
    """As a device would read the graph that skips one kind of its operators."""
    most = max(graph.operators, key=graph.operators.__getitem__)
    return GraphCounts({op: count for op, count in graph.operators.items() if op != most}, graph.surroundings)


def test_chosen_networks_are_different_and_the_same_every_time() -> None:
    chosen = choose_samples({"a": GRAPHS}, 8)
    assert len(set(chosen)) == 8
    assert choose_samples({"a": GRAPHS}, 8) == chosen


def test_a_longer_choice_begins_with_the_shorter_one() -> None:
    pool = {"a": GRAPHS, "b": [lighter(graph) for graph in GRAPHS]}
    assert choose_samples(pool, 8)[:4] == choose_samples(pool, 4)


def test_chosen_networks_leave_less_open_than_random_ones() -> None:
    roots = Prior.of([GRAPHS]).roots(GRAPHS)
    roots = roots / np.linalg.norm(roots, axis=1)[:, None]

    def left(rows: list[int]) -> float:
        inner = roots[rows] @ roots[rows].T + 0.01 * np.eye(len(rows))
        cross = roots @ roots[rows].T
        return float(len(roots) - np.trace(cross @ np.linalg.solve(inner, cross.T)))

    generator = np.random.default_rng(0)
    random = [left(generator.choice(len(GRAPHS), 6, replace=False).tolist()) for _ in range(40)]
    assert left(list(choose_samples({"a": GRAPHS}, 6))) < min(random)


def test_networks_are_chosen_that_tell_two_readings_apart() -> None:
    """The readings agree on the first half, so samples of that half would never settle which one holds."""
    other = [*GRAPHS[:30], *(lighter(graph) for graph in GRAPHS[30:])]
    chosen = list(choose_samples({"a": GRAPHS, "b": other}, 10))
    times, nothing = additive_times(GRAPHS)[chosen], np.zeros((10, 0))
    samples = {name: Known([graphs[i] for i in chosen], nothing) for name, graphs in (("a", GRAPHS), ("b", other))}
    assert fit_transfer(samples, times, []).readings["a"] > 0.95


def test_one_sample_that_took_far_too_long_does_not_change_what_the_others_say() -> None:
    chosen = list(choose_samples({"a": GRAPHS}, 12))
    rest = [index for index in range(len(GRAPHS)) if index not in chosen]
    times, nothing = additive_times(GRAPHS), np.zeros((len(GRAPHS), 0))
    spoiled = times[chosen] * np.where(np.arange(12) == 5, 5.0, 1.0)
    samples, others = ({"a": Known([GRAPHS[i] for i in rows], nothing[rows])} for rows in (chosen, rest))
    clean = fit_transfer(samples, times[chosen], []).predict(others)
    found = fit_transfer(samples, spoiled, []).predict(others)
    assert np.max(np.abs(found / clean - 1)) < 0.1


@pytest.mark.parametrize("count", [0, 61])
def test_as_many_samples_as_there_are_candidates_at_most(count: int) -> None:
    with pytest.raises(EstimatorError, match="candidates"):
        choose_samples({"a": GRAPHS}, count)
    with pytest.raises(EstimatorError, match="candidates"):
        choose_samples({}, 1)
