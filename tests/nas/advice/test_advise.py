"""Advice as a whole: what is proposed, how it is ranked, and whether it is true."""

from __future__ import annotations

from itertools import pairwise

import pytest
from advice_networks import bottlenecks, gated

from lanefit.common.errors import UnknownNameError
from lanefit.models.baselines import mobilenet_v2
from lanefit.models.registry import families
from lanefit.nas.advice.advise import Advice, advise, local_gain_us
from lanefit.nas.advice.judges import EngineJudge, Share
from lanefit.nas.advice.rule import Effect
from lanefit.nas.advice.subjects import ArchitectureSubject, ModelSubject
from lanefit.targets.spec import load_spec

JUDGE = EngineJudge(load_spec("ne-256"))


@pytest.fixture(scope="module")
def advice() -> Advice[ModelSubject]:
    return advise(ModelSubject(bottlenecks(channels=20, size=32, kernel=5, blocks=2)), JUDGE)


@pytest.fixture(scope="module")
def family_advice() -> Advice[ArchitectureSubject]:
    architecture = mobilenet_v2(width=0.5, resolution=32)
    return advise(ArchitectureSubject(families.get(architecture.family), architecture, 1, 10), JUDGE)


def test_an_estimate_is_what_the_changed_model_takes_when_compiled(advice: Advice[ModelSubject]) -> None:
    assert advice.alone
    for item in (*advice.alone, *advice.together):
        assert item.after.latency_us == pytest.approx(JUDGE.compiled(item.subject.model).latency_us, rel=0.05)


def test_rules_are_ranked_by_what_they_save(advice: Advice[ModelSubject]) -> None:
    latencies = [item.after.latency_us for item in advice.alone]
    assert latencies == sorted(latencies)


def test_every_step_of_all_together_saves_something(advice: Advice[ModelSubject]) -> None:
    latencies = [advice.before.latency_us, *(item.after.latency_us for item in advice.together)]
    assert all(later < earlier for earlier, later in pairwise(latencies))
    assert advice.gain == pytest.approx(1 - latencies[-1] / latencies[0])


def test_what_keeps_capacity_goes_first(advice: Advice[ModelSubject]) -> None:
    smaller = [item.effect is Effect.SMALLER for item in advice.together]
    assert smaller == sorted(smaller)


def test_rules_that_shrink_the_network_can_be_left_out() -> None:
    found = advise(ModelSubject(bottlenecks(blocks=1)), JUDGE, keep_capacity=True)
    assert all(item.effect is not Effect.SMALLER for item in (*found.alone, *found.together))


def test_only_the_rules_that_are_asked_for_are_tried() -> None:
    found = advise(ModelSubject(gated()), JUDGE, rules=["drop-squeeze-excite"])
    assert {item.rule for item in found.alone} == {"drop-squeeze-excite"}


def test_an_unknown_rule_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="no-such-rule") as caught:
        advise(ModelSubject(gated()), JUDGE, rules=["no-such-rule"])
    assert "align-channels" in caught.value.hint


def test_an_architecture_changes_into_another_one_of_its_family(family_advice: Advice[ArchitectureSubject]) -> None:
    assert family_advice.together
    for item in family_advice.together:
        item.subject.family.check(item.subject.architecture)
        assert item.subject.cost(JUDGE) == item.after


def test_sites_of_an_architecture_are_its_knobs(family_advice: Advice[ArchitectureSubject]) -> None:
    names = {knob for knob, _ in mobilenet_v2(width=0.5, resolution=32).knobs}
    assert all(site.name in names for item in family_advice.alone for site in item.sites)


def test_a_site_is_charged_with_everything_that_shares_a_piece_with_it() -> None:
    before = [Share(frozenset("ab"), 5.0), Share(frozenset("c"), 2.0), Share(frozenset("d"), 9.0)]
    after = [Share(frozenset("a"), 1.0), Share(frozenset("bc"), 3.0), Share(frozenset("d"), 1.0)]
    assert local_gain_us(["a"], before, after) == pytest.approx(5.0 + 2.0 - 1.0 - 3.0)
