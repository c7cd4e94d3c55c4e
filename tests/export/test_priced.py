"""SRAM for overlap is taken where it saves enough cycles, and only then."""

from itertools import pairwise

import pytest

from lanefit.export.overlap import Timetable
from lanefit.export.priced import Market
from lanefit.kernels.ops import Conv2d, Requantise, Window
from lanefit.kernels.search import candidates
from lanefit.kernels.subgraph import Memory, Subgraph
from lanefit.targets.spec import load_spec

SPEC = load_spec("ne-256")
SHORT = Subgraph((Requantise((4, 4, 16)),), Memory.SRAM, Memory.SRAM)
HEAVY = Subgraph((Conv2d((4, 4, 256), (4, 4, 256), Window(1, 1)),), Memory.SRAM, Memory.SRAM)
LIGHT = Subgraph((Conv2d((32, 32, 16), (32, 32, 16), Window(3, 3, 1, 1, 1, 1)),), Memory.SRAM, Memory.SRAM)


def _market(subgraphs: list[Subgraph], held: int, *, given: bool = False) -> Market:
    chosen = [candidates(subgraph, SPEC)[0] for subgraph in subgraphs]
    needed = [held + choice.workspace_bytes for choice in chosen]
    return Market(Timetable(subgraphs, chosen, SPEC), needed, SPEC.sram_bytes, given=given)


def test_twice_the_sram_is_worth_eight_per_cent_of_the_cycles() -> None:
    market = _market([SHORT], 0)
    assert market.price(915, 2**17) < market.price(1000, 2**16)
    assert market.price(919, 2**17) > market.price(1000, 2**16)


def test_where_the_limit_is_given_only_cycles_count() -> None:
    market = _market([SHORT], 0, given=True)
    assert market.price(1000, 2**20) == market.price(1000, 2**10)


@pytest.mark.parametrize("given", [False, True])
def test_offers_that_are_worth_considering_come_by_price_and_the_last_of_all_overlaps_least(given: bool) -> None:
    offers = list(_market([LIGHT, SHORT, HEAVY, HEAVY], 2_000, given=given).offers())
    assert offers[0].price == min(offer.price for offer in offers)
    assert sum(overlap.ahead for overlap in offers[-1].overlaps) <= sum(o.ahead for o in offers[0].overlaps)


def test_a_long_step_before_heavy_weights_makes_more_sram_worth_its_price() -> None:
    """What the long step leaves unused of its time hides loads, if there is room for what they bring."""
    market = _market([LIGHT, LIGHT, HEAVY], 60_000)
    assert next(market.offers()).limit_bytes > max(market.needed)


def test_little_sram_is_taken_where_little_is_left_to_hide() -> None:
    market = _market([LIGHT, LIGHT, LIGHT], 400_000)
    assert next(market.offers()).limit_bytes <= max(market.needed) * 1.06  # what one tile of weights takes


def test_offers_beyond_the_need_grow_until_nothing_more_could_be_saved() -> None:
    limits = sorted(offer.limit_bytes for offer in _market([LIGHT, SHORT, HEAVY], 0).offers())
    assert all(after <= max(SPEC.sram_bytes, before) for before, after in pairwise(limits))
    assert limits[-1] <= SPEC.sram_bytes
