"""The supernet: slices, extraction, pools inside the budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import BudgetError, UnsupportedError
from lanefit.models.architecture import Architecture
from lanefit.models.registry import families
from lanefit.nas.oneshot.evaluation import recalibrated
from lanefit.nas.oneshot.pool import feasible_pool, neighbour
from lanefit.nas.oneshot.supernet import Supernet, corners
from lanefit.nas.space import Space

SPACE = Space.of(families.get("ibn-classifier")).restrict({"resolution": [16], "depth_multiplier": [0.5, 1]})


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return Supernet(SPACE, channels=1, classes=10, seed=3)


def images(count: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn((count, 1, 16, 16), generator=torch.Generator().manual_seed(seed))


def macs(architecture: Architecture) -> float:
    return sum(layer.macs for layer in SPACE.family.layers(architecture, input_channels=1, classes=10))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_is_extracted_computes_what_the_slices_compute(supernet: Supernet, seed: int) -> None:
    architecture = SPACE.sample(seed)
    with torch.no_grad():
        sliced = supernet.forward(architecture, images())
        alone = supernet.extract(architecture).train()(images())
    torch.testing.assert_close(alone, sliced, rtol=0, atol=0)


def test_every_architecture_of_the_space_fits(supernet: Supernet) -> None:
    for architecture in [*corners(SPACE), *(SPACE.sample(seed) for seed in range(20))]:
        taken = supernet.slices(architecture)
        wanted = dict(supernet.module(architecture).named_parameters())
        assert {name: t.shape for name, t in taken.items()} == {name: t.shape for name, t in wanted.items()}


def test_gradients_reach_the_slice_and_nothing_else(supernet: Supernet) -> None:
    architecture = SPACE.sample(5)
    for parameter in supernet.parameters():
        parameter.grad = None
    supernet.forward(architecture, images()).sum().backward()
    names = {name.removeprefix("steps.").replace(".", ":", 1) for name in supernet.slices(architecture)}
    touched = {key[0] for key, parameter in supernet.weights.items() if parameter.grad is not None}
    assert touched == names


def test_a_smaller_kernel_is_the_centre_of_the_larger_one(supernet: Supernet) -> None:
    base = SPACE.sample(1)
    small, large = base.with_values(stem_kernel=3), base.with_values(stem_kernel=5)
    first, second = (supernet.slices(a)["steps.stem.conv.weight"] for a in (small, large))
    torch.testing.assert_close(first, second[:, :, 1:4, 1:4])


def test_an_extracted_network_shares_nothing(supernet: Supernet) -> None:
    architecture = SPACE.sample(2)
    before = supernet.arrays()
    found = supernet.extract(architecture)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(1.0)
    assert all(np.array_equal(before[name], array) for name, array in supernet.arrays().items())


def test_recalibration_takes_the_statistics_of_the_batches(supernet: Supernet) -> None:
    architecture = SPACE.sample(4)
    batches = [images(seed=1), images(seed=2)]
    found = recalibrated(supernet, architecture, batches)
    weight = supernet.slices(architecture)["steps.stem.conv.weight"].detach()
    stem = next(layer for layer in supernet.module(architecture).layers if layer.name == "stem")
    maps = [torch.nn.functional.conv2d(x, weight, stride=stem.stride, padding=stem.padding) for x in batches]
    expected = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    torch.testing.assert_close(found["steps.stem.norm.running_mean"], expected, rtol=1e-4, atol=1e-5)


def test_an_architecture_beyond_the_space_is_refused(supernet: Supernet) -> None:
    wide = SPACE.sample(1).with_values(stem_channels=64)
    with pytest.raises(UnsupportedError, match="does not fit"):
        supernet.slices(wide)


def test_weights_of_another_space_are_refused(supernet: Supernet) -> None:
    other = Supernet(SPACE.restrict({"stem_channels": [8, 12]}), channels=1, classes=10)
    with pytest.raises(UnsupportedError, match="another space"):
        other.load_arrays(supernet.arrays())


def test_everything_in_a_pool_is_inside_the_cap_even_its_largest() -> None:
    cap = float(np.median([macs(SPACE.sample(seed)) for seed in range(40)]))
    pool = feasible_pool(SPACE, lambda a: macs(a) if macs(a) <= cap else None, seed=1, count=40)
    sizes = [macs(member) for member in pool.members]
    assert max(sizes) <= cap
    assert sizes == sorted(sizes)
    assert macs(pool.largest) == max(sizes)
    assert len({member.digest() for member in pool.members}) == 40


def test_a_small_feasible_part_fills_the_pool_too() -> None:
    sizes = sorted(macs(SPACE.sample(seed)) for seed in range(200))
    cap = sizes[2]  # about one random architecture in seventy
    pool = feasible_pool(SPACE, lambda a: macs(a) if macs(a) <= cap else None, seed=1, count=30)
    assert len(pool.members) == 30


def test_the_same_seed_gives_the_same_pool() -> None:
    assert feasible_pool(SPACE, macs, seed=9, count=12) == feasible_pool(SPACE, macs, seed=9, count=12)
    assert feasible_pool(SPACE, macs, seed=9, count=12) != feasible_pool(SPACE, macs, seed=8, count=12)


def test_a_budget_that_nothing_meets_is_an_error() -> None:
    with pytest.raises(BudgetError, match="inside the budget"):
        feasible_pool(SPACE, lambda architecture: None, seed=0, count=3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_neighbour_is_another_architecture_of_the_space(seed: int) -> None:
    start = SPACE.sample(seed)
    found = neighbour(SPACE, start, np.random.default_rng(seed))
    SPACE.family.check(found)
    SPACE.check(found)
    shared = set(start.values) & set(found.values)
    assert sum(start.values[name] != found.values[name] for name in shared) <= 1
