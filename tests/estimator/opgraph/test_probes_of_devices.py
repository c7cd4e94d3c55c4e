"""Probes recover the rules of devices whose rules are known."""

from __future__ import annotations

import itertools

import pytest
from synthetic_device import SyntheticDevice

from lanefit.common.errors import EstimatorError, UnsupportedError
from lanefit.estimator.opgraph.fusion import FusionRules
from lanefit.estimator.opgraph.fusion_probes import COMMON_PAIRS, COMMON_TRIPLES, find_fusion_rules, probe_rule
from lanefit.estimator.opgraph.semantics import Semantics
from lanefit.estimator.opgraph.semantics_probes import find_semantics
from lanefit.estimator.opgraph.sequential import Interview, Plan


@pytest.mark.parametrize("semantics", Semantics)
@pytest.mark.parametrize("merges_equal", [False, True])
def test_semantics_are_found_through_the_noise(semantics: Semantics, merges_equal: bool) -> None:
    device = SyntheticDevice(semantics=semantics, merges_equal=merges_equal, seed=3)
    verdict = find_semantics(device.prepare)
    assert verdict.semantics == semantics
    assert verdict.merges_equal == merges_equal
    assert verdict.answers["runs_unused"].holds is False
    assert verdict.answers["runs_identities"].holds is False
    assert verdict.as_dict()["semantics"] == semantics


@pytest.mark.parametrize(
    "rules",
    [
        FusionRules(),
        FusionRules.of([("conv", "relu"), ("conv", "clip"), ("depthwise-conv", "relu")]),
        FusionRules.of([("conv", "relu")], [("conv", "add", "relu")]),
        FusionRules.of(COMMON_PAIRS, COMMON_TRIPLES),
    ],
)
def test_fusion_rules_are_found_through_the_noise(rules: FusionRules) -> None:
    device = SyntheticDevice(rules=rules, seed=5)
    found, verdicts = find_fusion_rules(device.prepare)
    assert found.pairs == rules.pairs
    assert rules.triples <= found.triples
    assert {verdict.rule for verdict in verdicts if verdict.holds is None} == set()


def test_a_device_that_is_all_noise_gets_no_rules_and_open_verdicts() -> None:
    device = SyntheticDevice(rules=FusionRules.of([("conv", "relu")]), noise=20.0, spike_rate=0.5)
    verdict = probe_rule(("conv", "relu"), device.prepare)
    assert verdict.holds is None
    found, _ = find_fusion_rules(device.prepare, pairs=[("conv", "relu")], triples=[])
    assert found == FusionRules()


def test_clear_answers_take_fewer_rounds_than_the_plan_allows() -> None:
    answer = Interview({"slow": itertools.cycle([10.0, 10.1]).__next__, "fast": itertools.cycle([1.0, 1.1]).__next__})
    found = answer.ask({"slow": 1.0, "fast": -1.0})
    assert (found.holds, found.rounds) == (True, Plan().looks[0])


def test_wrong_answers_stay_below_the_error_rate_when_nothing_differs() -> None:
    plan = Plan(error_rate=0.05)
    wrong = 0
    for seed in range(200):
        device = SyntheticDevice(noise=0.1, seed=seed)
        interview = Interview({name: _constant(device) for name in "ab"}, seed=seed)
        wrong += interview.ask({"a": 1.0, "b": -1.0}, plan).holds is not None
    assert wrong <= 20  # 5 % of 200 is 10; more than 20 has a probability below one in a thousand


def _constant(device: SyntheticDevice):  # noqa: ANN202
    from operator_examples import graph, relu

    return device.prepare(graph(("a", relu(), ("x",))))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_latency_that_is_no_positive_number_is_refused(value: float) -> None:
    with pytest.raises(EstimatorError, match="latency"):
        Interview({"a": lambda: value}).ask({"a": 1.0})


def test_a_kind_without_a_probe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedError, match="'softmax'"):
        probe_rule(("softmax", "relu"), SyntheticDevice().prepare)
