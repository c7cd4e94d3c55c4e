"""Tilings are chosen for the loads that are expected, within the memory that is given."""

import pytest

from lanefit.export.tiling import Chooser
from lanefit.kernels.ops import Conv2d, Window
from lanefit.kernels.subgraph import Memory, Subgraph
from lanefit.targets.spec import load_spec

U55 = load_spec("ethos-u55-128")
WEIGHTY = Subgraph((Conv2d((3, 3, 256), (3, 3, 256), Window(1, 1)),), Memory.SRAM, Memory.SRAM)


def test_loads_that_a_decoder_may_shorten_ask_for_tiles_that_the_array_prefers() -> None:
    plain, shortened = Chooser(U55).choose(WEIGHTY, 10**6), Chooser(U55, shortened=True).choose(WEIGHTY, 10**6)
    assert plain is not None
    assert shortened is not None
    assert shortened.estimate.compute < 0.8 * plain.estimate.compute


@pytest.mark.parametrize("shortened", [False, True])
def test_a_chosen_tiling_keeps_its_limit(shortened: bool) -> None:
    for limit in (0, 5_000, 10_000, 20_000, 40_000):
        choice = Chooser(U55, shortened=shortened).choose(WEIGHTY, limit)
        assert choice is None or choice.workspace_bytes <= limit
