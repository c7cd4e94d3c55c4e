"""A verdict does not pass what it cannot show."""

from __future__ import annotations

from lanefit.common.budget import Budget
from lanefit.export.judgement import Judgement, judge, passive, refused
from lanefit.export.placement import Placement

ENGINE = Placement("conv", "Conv", "engine")
BORDER = Placement("in", "QuantizeLinear", "cpu", "border", "QuantizeLinear")
SIGMOID = Placement("gate", "Sigmoid", "cpu", "operator", "Sigmoid")
FOUND = {"latency_us": 10.0, "sram_bytes": 100, "weight_bytes": 1000}


def _judge(budget: Budget, *placements: Placement) -> Judgement:
    return judge(budget, placements, **FOUND)


def test_a_network_on_the_engine_is_judged_by_its_figures() -> None:
    assert _judge(Budget(latency_us=10), ENGINE, BORDER).passed
    assert not _judge(Budget(latency_us=9), ENGINE, BORDER).passed


def test_a_cpu_operator_leaves_the_latency_unproven() -> None:
    found = _judge(Budget(latency_us=10), ENGINE, SIGMOID)
    assert not found.passed
    assert str(found).startswith("FAIL  latency 10.0 us <= 10.0 us")
    assert "not proven: 1 operator runs on the CPU" in str(found)
    assert found.as_dict()["passed"] is False
    assert found.items[0].passed


def test_a_cpu_operator_does_not_touch_other_limits() -> None:
    assert _judge(Budget(sram_bytes=100), SIGMOID).passed


def test_an_accuracy_floor_is_left_out() -> None:
    assert _judge(Budget(accuracy=0.9), ENGINE).items == ()


def test_borders_are_told_from_refusals() -> None:
    assert refused((ENGINE, BORDER, SIGMOID)) == (SIGMOID,)
    assert passive((ENGINE, BORDER, SIGMOID)) == (BORDER,)
