"""A bare family name stands for a network."""

from __future__ import annotations

import pytest

from lanefit.models.registry import families


@pytest.mark.parametrize("name", families.names())
def test_the_middle_of_a_space_is_a_canonical_member(name: str) -> None:
    family = families.get(name)
    middle = family.middle()
    family.check(middle)
    assert family.canonicalise(middle) == middle
    values = {knob.name: knob.values for knob in family.knobs()}
    assert all(value in values[knob] for knob, value in middle.knobs)
