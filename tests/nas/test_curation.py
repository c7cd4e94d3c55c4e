from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nas_fakes import TOY

from lanefit.common.errors import ConfigError
from lanefit.models.registry import families
from lanefit.nas.curation import channel_latency, channel_utilisation, curate, curate_values, roughness, runnable
from lanefit.nas.space import Space
from lanefit.targets.spec import load_spec

NE_256 = load_spec("ne-256")
COARSE = replace(NE_256, micro_blocks=())  # one way to use the output lanes: a staircase of whole blocks


@pytest.mark.parametrize(("target", "lanes"), [("ne-64", 8), ("ne-256", 16), ("ne-1024", 32)])
def test_multiples_of_the_lanes_are_what_stays(target: str, lanes: int) -> None:
    coarse = replace(load_spec(target), micro_blocks=())
    report = curate_values("channels", range(4, 161, 4), channel_latency(coarse))
    assert report.kept == tuple(range(lanes, 161, lanes))
    assert report.roughness_after is not None
    assert report.roughness_before is not None
    assert report.roughness_after < report.roughness_before


def test_a_choice_of_micro_blocks_makes_more_counts_worth_having() -> None:
    coarse, fine = (curate_values("channels", range(4, 161), channel_latency(s)).kept for s in (COARSE, NE_256))
    assert set(coarse) < set(fine)
    assert len(fine) < 157


def test_the_space_of_a_family_shrinks_to_the_edges_and_the_report_says_why() -> None:
    space, report = curate(Space.of(families.get("ibn-classifier")), COARSE)
    for knob in space.knobs:
        if knob.kind == "channels":
            assert all(int(value) % 16 == 0 for value in knob.values)
    assert report.cardinality_after == space.cardinality() < report.cardinality_before
    stage = next(entry for entry in report.knobs if entry.knob == "stage1_channels")
    assert stage.kept == (16, 32)
    assert stage.utilisation_before is not None
    assert stage.utilisation_after is not None
    assert stage.utilisation_after > stage.utilisation_before
    assert {entry.value: entry.reason for entry in stage.dropped}[12] == "16 channels do 33% more for 0% more time"


def test_a_report_is_serialisable() -> None:
    _, report = curate(Space.of(TOY), NE_256)
    assert json.loads(json.dumps(report.as_dict()))["knobs"][0]["knob"] == "first_channels"


def test_knobs_narrowed_by_hand_stay_as_they_are() -> None:
    space = Space.of(TOY).restrict({"first_channels": [12, 24]})
    curated, report = curate(space, NE_256, leave=["first_channels"])
    values = {knob.name: knob.values for knob in curated.knobs}
    assert values["first_channels"] == (12, 24)
    assert [entry.knob for entry in report.knobs] == ["second_channels"]


def test_a_scaling_knob_keeps_only_the_factor_that_leaves_channels_on_their_edges() -> None:
    space, report = curate(Space.of(families.get("ibn-classifier")), NE_256)
    assert next(knob.values for knob in space.knobs if knob.kind == "multiplier") == (1,)
    assert (
        "off the edges" in next(entry for entry in report.knobs if entry.knob == "depth_multiplier").dropped[0].reason
    )


def test_a_given_latency_is_evaluated_instead_of_the_closed_form() -> None:
    _, report = curate(Space.of(TOY), NE_256, lambda channels: float(-(-channels // 12)))
    assert next(entry.kept for entry in report.knobs if entry.knob == "first_channels") == (12, 24, 32)


def test_zero_channels_mean_no_layer_and_are_kept() -> None:
    assert curate_values("head", (0, 8, 16), channel_latency(COARSE)).kept == (0, 16)


@pytest.mark.parametrize("values", [(), (0,), (-4, 8)])
def test_counts_that_make_no_layer_are_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="no positive channel count"):
        curate_values("channels", values, channel_latency(NE_256))


counts = st.lists(st.integers(1, 512), min_size=1, max_size=20, unique=True)


@given(counts)
def test_the_largest_value_stays_and_nothing_is_invented(values: list[int]) -> None:
    report = curate_values("channels", values, channel_latency(NE_256))
    assert report.kept[-1] == max(values)
    assert {*report.kept, *(entry.value for entry in report.dropped)} == set(values)


@given(counts, st.floats(0, 1e4))
def test_a_smooth_curve_keeps_every_value_whatever_its_constant_part(values: list[int], constant: float) -> None:
    assert curate_values("channels", values, lambda c: constant + 2.0 * c).kept == tuple(sorted(values))


@given(counts)
def test_values_on_one_step_leave_only_the_largest(values: list[int]) -> None:
    kept = curate_values("channels", values, lambda c: float(-(-c // 64))).kept
    assert len({-(-int(value) // 64) for value in kept}) == len(kept)


def test_utilisation_is_a_share_and_full_at_whole_blocks() -> None:
    assert channel_utilisation(NE_256, 64) == pytest.approx(1.0)
    assert channel_utilisation(COARSE, 65) < 0.85
    assert channel_utilisation(COARSE, 65) < channel_utilisation(NE_256, 65) < 1
    assert roughness([1, 2], [1.0, 5.0]) == 0.0


def test_block_values_that_no_engine_operator_computes_are_dropped_with_the_reason() -> None:
    space, report = curate(Space.of(families.get("nas-bench-201")), NE_256)
    assert all("avg_pool_3x3" not in knob.values and len(knob.values) == 4 for knob in space.knobs)
    assert "whole windows only" in report.knobs[0].dropped[0].reason
    assert runnable(Space.of(families.get("nas-bench-201"))).knobs == space.knobs


@pytest.mark.parametrize("name", ["ibn-classifier", "mnasnet"])
def test_families_that_the_engine_runs_as_a_whole_lose_nothing(name: str) -> None:
    space = Space.of(families.get(name))
    assert runnable(space).knobs == space.knobs
