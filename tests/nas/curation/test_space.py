"""Curation of a toy family and of the real ones, on cost models whose right answer is known."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nas_fakes import TOY

from lanefit.common.errors import UnsupportedError
from lanefit.models.layers import LayerSpec
from lanefit.models.registry import families
from lanefit.nas.curation import CurationReport, TargetCosts, curate, runnable
from lanefit.nas.curation.costs import work_of
from lanefit.nas.space import Space

Layers = tuple[LayerSpec, ...]


def staircase(layers: Layers, step: int = 16) -> float:
    """Lanes that take `step` channels at once, on the side of the inputs and of the outputs; beginning costs a unit."""
    return sum(1 + _padded(layer, step) for layer in layers if layer.weights)


def _padded(layer: LayerSpec, step: int) -> float:
    sides = (layer.output_shape[0],) if layer.kind == "depthwise" else (layer.input_shape[0], layer.output_shape[0])
    return layer.macs * math.prod(math.ceil(side / step) * step / side for side in sides)


def proportional(layers: Layers) -> float:
    return work_of(layers)[0]


def kept(space: Space) -> dict[str, tuple[object, ...]]:
    return {knob.name: knob.values for knob in space.knobs}


def reasons(report: CurationReport, knob: str) -> dict[object, str]:
    return next({entry.value: entry.reason for entry in found.dropped} for found in report.knobs if found.knob == knob)


def test_on_a_staircase_only_right_edges_stay_and_the_report_says_why() -> None:
    space, report = curate(Space.of(TOY), TargetCosts("stairs", staircase))
    assert kept(space)["first_channels"] == (16, 32)
    assert "for the same time" in reasons(report, "first_channels")[12]
    assert report.cardinality_after == space.cardinality() < report.cardinality_before
    assert json.loads(json.dumps(report.as_dict()))["target"] == "stairs"


def test_a_cost_in_proportion_to_work_has_no_edges_so_only_lanes_thin_the_counts() -> None:
    free, _ = curate(Space.of(TOY), TargetCosts("even", proportional))
    assert kept(free)["first_channels"] == (8, 12, 16, 24, 32)
    lanes, report = curate(Space.of(TOY), TargetCosts("even", proportional, lanes=16))
    assert kept(lanes)["first_channels"] == (8, 16, 32)
    assert reasons(report, "first_channels")[24].startswith("no multiple of 16 lanes")


def test_values_that_cost_and_do_the_same_become_one() -> None:
    space, report = curate(Space.of(TOY), TargetCosts("even", proportional))
    assert kept(space)["activation"] == ("relu",)
    assert reasons(report, "activation") == {"relu6": "relu does the same for the same time"}


def test_what_the_target_refuses_goes_with_the_reason_it_gave() -> None:
    def refusing(layers: Layers) -> float:
        if any(layer.kernel == 5 for layer in layers):
            raise UnsupportedError("windows of 5 are too large")
        return proportional(layers)

    space, report = curate(Space.of(TOY), TargetCosts("small", refusing))
    assert 5 not in kept(space)["first_kernel"]
    assert reasons(report, "first_kernel")[5] == "windows of 5 are too large"


def test_values_stand_in_the_order_of_their_cost() -> None:
    def small_windows_are_slow(layers: Layers) -> float:
        return sum(10.0**8 / layer.kernel**2 + layer.macs for layer in layers)

    space, _ = curate(Space.of(TOY), TargetCosts("odd", small_windows_are_slow), leave=["first_kernel"])
    assert kept(space)["first_kernel"] == (5, 3, 1)


def test_what_costs_more_and_does_less_goes() -> None:
    def small_windows_are_slow(layers: Layers) -> float:
        return sum(10.0**8 / layer.kernel**2 + layer.macs for layer in layers)

    space, report = curate(Space.of(TOY), TargetCosts("odd", small_windows_are_slow))
    assert kept(space)["first_kernel"] == (5,)
    assert "more MACs" in reasons(report, "first_kernel")[1]
    assert "less time" in reasons(report, "first_kernel")[1]


def test_knobs_narrowed_by_hand_keep_their_values() -> None:
    space = Space.of(TOY).restrict({"first_channels": [12, 24]})
    found, report = curate(space, TargetCosts("stairs", staircase), leave=["first_channels"])
    assert kept(found)["first_channels"] == (12, 24)
    assert reasons(report, "first_channels") == {}


def test_a_curated_space_draws_only_what_it_kept() -> None:
    space, _ = curate(Space.of(TOY), TargetCosts("stairs", staircase))
    for seed in range(20):
        space.check(space.sample(seed))


def test_cells_keep_cutting_and_skipping_apart_though_neither_does_any_work() -> None:
    space, _ = curate(Space.of(families.get("nas-bench-201")), TargetCosts("even", lambda n: 1 + proportional(n)))
    assert all({"none", "skip_connect"} <= {*values} for values in kept(space).values())


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.floats(0, 50))
def test_no_value_is_invented_and_every_knob_keeps_one(step: int, constant: float) -> None:
    full = Space.of(TOY)
    space, report = curate(full, TargetCosts("stairs", lambda layers: constant + staircase(layers, step)))
    for before, after, entry in zip(full.knobs, space.knobs, report.knobs, strict=True):
        assert after.values
        assert {*after.values} | {d.value for d in entry.dropped} == {*before.values}
        assert len(after.values) + len(entry.dropped) == len(before.values)


@pytest.mark.parametrize("name", ["ibn-classifier", "mnasnet"])
def test_families_that_the_engine_runs_as_a_whole_lose_nothing(name: str) -> None:
    space = Space.of(families.get(name))
    assert runnable(space).knobs == space.knobs


def test_operations_that_no_engine_computes_are_not_runnable() -> None:
    space = runnable(Space.of(families.get("nas-bench-201")))
    assert all("avg_pool_3x3" not in knob.values and len(knob.values) == 4 for knob in space.knobs)
