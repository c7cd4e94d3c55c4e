"""Where the microseconds of a predicted network go, and what lies beyond the measurements."""

from __future__ import annotations

import numpy as np
import pytest
from estimator.live.synthetic import chain_graph, true_latency_us
from estimator.live.test_additive import CACHES, as_sum, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.estimator.live.additive import AdditiveModel, fit_additive
from lanefit.estimator.live.box import Known, box_as_dict, box_of, place
from lanefit.estimator.live.breakdown import breakdowns
from lanefit.estimator.live.executed import ExecutedOperator
from lanefit.estimator.live.files import CalibratedDevice
from lanefit.estimator.live.judgement import estimate_live
from lanefit.estimator.live.memory import Term
from lanefit.estimator.live.operator_costs import Sum
from lanefit.estimator.live.work import work_of

GENERATOR = np.random.default_rng(0)
GRAPHS = [random_graph(GENERATOR, int(GENERATOR.integers(1, 5))) for _ in range(80)]


@pytest.fixture(scope="module")
def device() -> CalibratedDevice:
    model = fit_additive([as_sum(g) for g in GRAPHS], [true_latency_us(g) for g in GRAPHS])
    return CalibratedDevice(model, "synthetic", "synthetic 1", CACHES)


def renamed(total: Sum, domain: str) -> Sum:
    """The same work by operators of kinds that nobody measured."""
    terms = (
        Term(ExecutedOperator(f"{domain}.{t.operator.kind}", t.operator.inputs, t.operator.outputs), t.distant_bytes)
        for t in total.terms
    )
    return Sum(tuple(terms), total.ports, total.cold)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 25))
def test_parts_and_the_run_add_up_to_the_prediction(device: CalibratedDevice, seed: int, length: int) -> None:
    total = as_sum(random_graph(np.random.default_rng(seed), length))
    predicted, _ = device.model.predict([total])
    found = breakdowns(device.model, [total], device.box)[0]
    assert found.total_us == pytest.approx(predicted[0], rel=1e-9)
    assert sum(part.count for part in found.parts) == len(total.terms)
    assert all(0 < part.lower_us <= part.latency_us <= part.upper_us for part in found.parts)
    assert [part.total_us for part in found.parts] == sorted((p.total_us for p in found.parts), reverse=True)


def test_what_was_measured_lies_in_the_box_and_other_sizes_and_kinds_do_not(device: CalibratedDevice) -> None:
    box = box_of([as_sum(g) for g in GRAPHS])
    inside = work_of(GRAPHS[0].nodes[0].operator)
    wide = work_of(chain_graph([(512, 512, 3, 28)]).nodes[0].operator)
    strange = work_of(renamed(as_sum(GRAPHS[0]), "org.example").terms[0].operator)
    assert [place(box, work) for work in (inside, wide, strange)] == [Known.INSIDE, Known.BEYOND, Known.UNKNOWN]
    named = box_as_dict(box)["Conv window"]
    assert named["inputs"] == [16.0, 96.0]
    assert named["kernel"] == [9.0, 9.0]


def test_an_unknown_operator_is_listed_with_its_share_and_a_wide_interval(device: CalibratedDevice) -> None:
    known = as_sum(random_graph(np.random.default_rng(5), 6))
    strange = renamed(known, "org.example")
    mixed = Sum((*known.terms[:5], strange.terms[5]), known.ports)
    found = breakdowns(device.model, [known, mixed], device.box)
    (odd,) = [part for part in found[1].parts if part.known is Known.UNKNOWN]
    assert odd.operator.kind == "org.example.Conv"
    assert odd.latency_us > 0
    assert found[1].has_unknown
    assert found[1].extrapolated_share == pytest.approx(odd.total_us / found[1].total_us)
    width = {part.known: part.upper_us / part.latency_us for part in found[1].parts}
    assert width[Known.UNKNOWN] > 1.5 > width[Known.INSIDE]


def test_networks_inside_the_box_are_not_flagged_and_others_are(device: CalibratedDevice) -> None:
    usual = [random_graph(np.random.default_rng(seed), 12) for seed in range(20)]
    wide = chain_graph([(16, 16, 3, 28), (16, 512, 1, 28), (512, 512, 3, 28)])
    estimates = estimate_live(device, [*usual, wide])
    flags = [estimate.extrapolated for estimate in estimates]
    widths = [estimate.upper_us / estimate.latency_us for estimate in estimates]
    assert widths[-1] > 1.3 > sorted(widths)[10]
    assert flags[-1]
    assert sum(flags[:-1]) <= 2


def test_data_from_afar_that_no_sample_touched_widens_the_interval_and_costs_what_memory_costs() -> None:
    """Samples that fit into the cache say nothing of networks that do not."""
    model: AdditiveModel = fit_additive([as_sum(g) for g in GRAPHS], [true_latency_us(g) for g in GRAPHS])
    near = as_sum(random_graph(np.random.default_rng(3), 8))
    far = Sum(tuple(Term(t.operator, (5e6,)) for t in near.terms), near.ports)
    (usual, cold), (sure, unsure) = model.predict([near, far])
    assert usual < cold < usual + 8 * 5e3
    assert unsure / cold > 2 * sure / usual
