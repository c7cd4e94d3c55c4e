from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nas_fakes import TOY

from lanefit.models.layers import LayerSpec
from lanefit.nas.config import load_config
from lanefit.nas.curation import Sampler, TargetCosts, curate
from lanefit.nas.curation.costs import work_of
from lanefit.nas.curation.files import write_curated
from lanefit.nas.curation.landscape import Landscape, draw_landscapes, landscapes, write_landscapes
from lanefit.nas.curation.walks import ordered_by_work, ruggedness
from lanefit.nas.space import Space
from lanefit.nas.workbench import check_settings

Layers = tuple[LayerSpec, ...]
FULL = Space.of(TOY)
WORK = TargetCosts("work", lambda layers: work_of(layers)[0])
SLOW_WINDOWS = TargetCosts("odd", lambda layers: sum(10.0**8 / n.kernel**2 + n.macs for n in layers if n.weights))


def sampler(costs: TargetCosts) -> Sampler:
    return Sampler(TOY, costs, input_channels=3, classes=10)


def test_a_walk_in_the_order_of_cost_never_falls() -> None:
    found = ruggedness(FULL.restrict({"second_block": ["conv"]}), sampler(WORK), steps=200)
    assert (found.steps, found.falls, found.minima) == (200, 0, 0)


def test_an_order_against_the_cost_shows_as_falls_and_minima_and_curation_removes_them() -> None:
    before = ruggedness(ordered_by_work(FULL), sampler(SLOW_WINDOWS), steps=200)
    curated, _ = curate(FULL, SLOW_WINDOWS)
    after = ruggedness(curated, sampler(SLOW_WINDOWS), steps=200)
    assert before.falls_per_1000 > 50
    assert before.minima > 0
    assert after.falls_per_1000 < before.falls_per_1000 / 5


def test_walks_repeat_under_a_seed() -> None:
    first, second, other = (ruggedness(FULL, sampler(SLOW_WINDOWS), steps=100, seed=seed) for seed in (1, 1, 2))
    assert first == second != other


def test_a_space_without_a_choice_has_no_walks() -> None:
    single = FULL.restrict({knob.name: [knob.values[0]] for knob in FULL.knobs})
    assert ruggedness(single, sampler(WORK)).steps == 0


def test_work_orders_strides_downwards_and_kinds_by_what_they_do() -> None:
    values = {knob.name: knob.values for knob in ordered_by_work(FULL).knobs}
    assert values["second_block"] == ("separable", "conv")
    assert values["first_kernel"] == (1, 3, 5)


def test_dips_are_points_below_all_their_neighbours_but_for_the_lowest_corner() -> None:
    values = np.add.outer(np.arange(5.0), np.arange(5.0)) + 10
    assert Landscape.of("slope", values).dips == ()
    values[2, 2] = 1
    assert Landscape.of("hole", values).dips == ((2, 2),)


def test_pictures_are_a_png_and_a_page_that_needs_no_network(tmp_path: Path) -> None:
    curated, _ = curate(FULL, SLOW_WINDOWS)
    found = landscapes("odd", ordered_by_work(FULL), curated, sampler(SLOW_WINDOWS), size=6)
    assert [landscape.values.shape for landscape in found] == [(6, 6)] * 3
    picture = draw_landscapes(found, tmp_path / "l.png").read_bytes()
    page = write_landscapes(found, tmp_path / "l.html", heading="toy").read_text(encoding="utf-8")
    assert picture.startswith(b"\x89PNG")
    assert "odd, curated" in page
    assert 'src="http' not in page


def test_the_file_of_a_curated_space_is_a_search_over_exactly_that_space(tmp_path: Path) -> None:
    from lanefit.models.registry import families

    full = Space.of(families.get("ibn-classifier")).restrict({"stages": [2]})
    curated, report = curate(full, WORK, leave=[k.name for k in full.knobs if not k.name.startswith("stem")])
    config = load_config(write_curated(curated, report, tmp_path / "space.toml", target="ne-64", task="digits"))
    space, _ = check_settings(config)
    assert space == curated
    assert (config.curate, config.target) == (False, "ne-64")


@pytest.mark.parametrize("ordered", [False, True])
def test_an_ordered_restriction_keeps_the_order_in_which_values_are_listed(ordered: bool) -> None:
    found = FULL.restrict({"first_kernel": [5, 1]}, ordered=ordered)
    values = {knob.name: knob.values for knob in found.knobs}
    assert values["first_kernel"] == ((5, 1) if ordered else (1, 5))
