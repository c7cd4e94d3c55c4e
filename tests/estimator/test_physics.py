"""Closed forms, rooflines, traffic and features against the cycle model."""

import numpy as np
import pytest
from estimator.sample_graphs import sample_graphs

from lanefit.common.errors import UnsupportedError
from lanefit.estimator.decompose import distinct_workloads
from lanefit.estimator.features import COLUMN, COLUMNS, KINDS, feature_matrix
from lanefit.estimator.measurement import Workload
from lanefit.estimator.physics import PHASES, Durations, lower_bounds, physics
from lanefit.estimator.probes import probes
from lanefit.estimator.runner import EngineRunner, candidate
from lanefit.estimator.traffic import traffic
from lanefit.export.lower import compile_subgraph
from lanefit.kernels.subgraph import Kind, Memory
from lanefit.targets.spec import EngineSpec, load_spec
from lanefit.targets.timing import simulate

TARGETS = ("ne-64", "ne-256", "ne-4096")


def _measured(workload: Workload, spec: EngineSpec) -> Durations:
    found = EngineRunner(spec).measure(workload)
    return Durations(found.latency, **found.phases)


@pytest.mark.parametrize("target", TARGETS)
def test_no_phase_is_ever_shorter_than_its_roofline(target: str) -> None:
    spec = load_spec(target)
    for workload in probes(spec, per_kind=12, seed=3):
        measured, bound = _measured(workload, spec), lower_bounds(workload.subgraph, spec)
        assert bound.latency <= measured.latency
        assert bound.prefetched <= measured.prefetched <= measured.latency
        assert bound.slack <= measured.slack
        assert bound.tail <= measured.tail


@pytest.mark.parametrize("target", TARGETS)
def test_latency_by_closed_form_is_near_the_cycle_model(target: str) -> None:
    spec = load_spec(target)
    work = probes(spec, per_kind=12, seed=4)
    ratios = [physics(w.subgraph, candidate(w, spec), spec).latency / _measured(w, spec).latency for w in work]
    assert np.mean(np.abs(np.log(ratios)) < 0.25) > 0.85


def test_resident_convolutions_need_no_correction() -> None:
    spec = load_spec("ne-256")
    work = distinct_workloads(sample_graphs(2, seed=8), spec)
    resident = [w for w in work if w.subgraph.convs and not w.subgraph.streams and len(w.subgraph.ops) == 1]
    for workload in resident:
        assert physics(workload.subgraph, candidate(workload, spec), spec).latency == _measured(workload, spec).latency


def test_only_steps_that_store_have_a_tail() -> None:
    spec = load_spec("ne-256")
    for workload in probes(spec, per_kind=4, seed=5):
        stores = workload.subgraph.output is not Memory.SRAM
        found = physics(workload.subgraph, candidate(workload, spec), spec)
        assert (found.tail > 0) == stores == (_measured(workload, spec).tail > 0)


@pytest.mark.parametrize("target", TARGETS)
def test_traffic_equals_what_the_program_moves(target: str) -> None:
    spec = load_spec(target)
    for workload in probes(spec, per_kind=10, seed=6):
        timing = simulate(compile_subgraph(workload.subgraph, spec, candidate(workload, spec)))
        found = traffic(workload.subgraph, workload.tiling)
        assert (found.read_bytes, found.written_bytes) == (timing.dram_read_bytes, timing.dram_write_bytes)


def test_a_kind_without_a_rule_for_its_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanefit.estimator.traffic._READS", {})
    workload = probes(load_spec("ne-256"), per_kind=1, seed=0)[0]
    with pytest.raises(UnsupportedError, match=f"of a {workload.subgraph.kind}"):
        traffic(workload.subgraph, workload.tiling)


def test_features_are_finite_named_once_and_foundations_positive() -> None:
    spec = load_spec("ne-256")
    work = probes(spec, per_kind=6, seed=7)
    x = feature_matrix([(w.subgraph, candidate(w, spec)) for w in work], spec)
    assert x.shape == (len(work), len(COLUMNS)) == (len(work), len(set(COLUMNS)))
    assert np.isfinite(x).all()
    for phase in PHASES[:3]:
        assert (x[:, COLUMN[f"physics_{phase}"]] > 0).all()
        assert (x[:, COLUMN[f"bound_{phase}"]] > 0).all()
    assert feature_matrix([], spec).shape == (0, len(COLUMNS))


def test_probes_cover_every_kind_with_and_without_a_store() -> None:
    for target in TARGETS:
        found = probes(load_spec(target), per_kind=6, seed=0)
        assert found == probes(load_spec(target), per_kind=6, seed=0)
        kinds = {(w.subgraph.kind, w.subgraph.output is Memory.SRAM) for w in found}
        stored = {(Kind.CUBOID_ATTENTION, True)}  # that one always stores
        assert kinds == {(kind, resident) for kind in KINDS for resident in (True, False)} - stored
