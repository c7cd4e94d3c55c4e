from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.budget import Budget, Verdict
from lanefit.common.errors import ConfigError, InputError


def test_budgets_are_read_with_their_units() -> None:
    budget = Budget.parse(["latency=2ms", "sram = 512KiB", "weights=1MiB", "accuracy=97%", "energy=0.5mJ"])
    assert budget == Budget(2000.0, 524288, 1048576, 0.97, 500.0)
    assert (
        str(budget)
        == "latency <= 2.00 ms, sram <= 512.0 KiB, weights <= 1.00 MiB, energy <= 500.0 uJ, accuracy >= 97.00%"
    )


def test_a_budget_table_names_the_key_of_a_bad_value() -> None:
    with pytest.raises(ConfigError, match="'2' is not a time with a unit") as caught:
        Budget.from_dict({"latency": "2"}, where="search.toml")
    assert caught.value.where == "search.toml:latency"


def test_an_unknown_budget_is_refused_with_near_matches() -> None:
    with pytest.raises(ConfigError, match="unknown budget 'latncy'") as caught:
        Budget.parse(["latncy=2ms"])
    assert "did you mean latency?" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["latency", "latency=", "latency=0us", "sram=-1KiB", "accuracy=many", "accuracy=97", "latency=1e999s"]
)
def test_a_malformed_budget_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Budget.parse([text])


def test_a_budget_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="given twice"):
        Budget.parse(["latency=2ms", "latency=3ms"])


def test_a_verdict_gives_the_slack_of_each_limit() -> None:
    verdict = Budget.parse(["latency=2ms", "sram=1KiB", "accuracy=0.9"]).check(
        latency_us=1000, sram_bytes=2048, accuracy=0.95
    )
    assert [item.passed for item in verdict.items] == [True, False, True]
    assert not verdict.passed
    assert verdict.excess == pytest.approx(1.0)
    assert "latency 1.00 ms <= 2.00 ms (50.0% slack)" in str(verdict)
    assert "sram 2.0 KiB > 1.0 KiB (missed by 100.0%)" in str(verdict)


def test_a_missed_accuracy_floor_reads_as_below() -> None:
    verdict = Budget(accuracy=0.9).check(accuracy=0.81)
    assert str(verdict).startswith("FAIL  accuracy 81.00% < 90.00% (missed by 10.0%)")


def test_a_limited_quantity_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(InputError, match="no accuracy was measured"):
        Budget(accuracy=0.9).check(latency_us=1.0)
    with pytest.raises(InputError, match="no latency was measured"):
        Budget(latency_us=1.0).check(latency_us=float("nan"))


def test_an_empty_budget_passes_and_says_so() -> None:
    assert Budget().check().passed
    assert str(Verdict()) == "PASS  no budget given"


def test_the_hardware_part_drops_the_accuracy_floor() -> None:
    assert Budget.parse(["latency=1ms", "accuracy=0.9"]).hardware() == Budget(latency_us=1000.0)


@given(limit=st.floats(1e-3, 1e9), value=st.floats(0, 1e9))
def test_excess_is_zero_exactly_when_the_verdict_passes(limit: float, value: float) -> None:
    verdict = Budget(latency_us=limit).check(latency_us=value)
    assert (verdict.excess == 0) == verdict.passed == (value <= limit)
