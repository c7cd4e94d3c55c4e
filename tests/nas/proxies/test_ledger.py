from __future__ import annotations

import pytest

from lanefit.nas.proxies import DEFAULT_PROXIES, timed_scores
from lanefit.nas.proxies.conformance import minibatch, small_network
from lanefit.nas.proxies.ledger import Ledger
from lanefit.nas.proxies.subject import Subject


class _Counted(Ledger):
    """A ledger whose clock advances by one second with every look at it."""

    def __init__(self) -> None:
        super().__init__()
        ticks = iter(range(1000))
        self._now = lambda: float(next(ticks))


def test_nested_sections_are_booked_once_and_needed_ones_are_part_of_the_cost() -> None:
    ledger = _Counted()
    with ledger.section("a"), ledger.section("pass"):
        pass
    with ledger.section("b"):
        ledger.need("pass")
    assert ledger.total_seconds == 4.0  # a before and after the pass, the pass, b
    assert ledger.seconds_of("pass") == 1.0
    assert ledger.seconds_of("a") == 3.0
    assert ledger.seconds_of("b") == 2.0


def test_costs_of_scores_that_share_passes_add_up_to_more_than_both_took() -> None:
    subject = Subject(small_network(), minibatch(), macs=1)
    scores, seconds = timed_scores(("naswot", "jacob-cov"), subject)
    assert set(scores) == set(seconds) == {"naswot", "jacob-cov"}
    assert max(seconds.values()) <= subject.ledger.total_seconds < sum(seconds.values())


@pytest.mark.parametrize("order", [DEFAULT_PROXIES, DEFAULT_PROXIES[::-1]])
def test_scores_do_not_depend_on_who_ran_the_shared_passes(order: tuple[str, ...]) -> None:
    alone = {name: timed_scores((name,), Subject(small_network(), minibatch(), macs=1))[0][name] for name in order}
    assert timed_scores(order, Subject(small_network(), minibatch(), macs=1))[0] == alone
