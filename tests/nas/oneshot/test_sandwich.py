"""Training of a supernet: it learns, it repeats, it resumes, and nothing outside of the budget is trained."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lanefit.common.errors import ConfigError, InputError
from lanefit.models.registry import families, find_task
from lanefit.models.tasks import Split, Task
from lanefit.nas.oneshot.evaluation import subnet_accuracy
from lanefit.nas.oneshot.pool import FeasiblePool, feasible_pool
from lanefit.nas.oneshot.sandwich import SandwichConfig, SupernetEpoch, train_supernet
from lanefit.nas.oneshot.supernet import Supernet
from lanefit.nas.space import Space

SPACE = Space.of(families.get("ibn-classifier")).restrict({
    "resolution": [16, 20], "stages": [2], "depth_multiplier": [1], "stem_channels": [8, 16], "stem_stride": [2],
    "head_channels": [64], "stage1_depth": [1], "stage2_depth": [1, 2], "stage1_expansion": [1, 2],
    "stage2_expansion": [2], "stage2_stride": [2], "stage1_channels": [8, 16], "stage2_channels": [16, 24],
})  # fmt: skip
TASK: Task = find_task("digits")
CONFIG = SandwichConfig(epochs=2, batch_size=32, limit=64, seed=5, device="cpu")


@pytest.fixture(scope="module")
def pool() -> FeasiblePool:
    def size(architecture) -> float:  # noqa: ANN001
        return sum(layer.macs for layer in SPACE.family.layers(architecture, input_channels=1, classes=10))

    return feasible_pool(SPACE, size, seed=0, count=12)


def fresh() -> Supernet:
    return Supernet(SPACE, TASK.channels, TASK.classes, seed=1)


def test_a_supernet_learns_what_its_subnets_are_asked(pool: FeasiblePool) -> None:
    supernet = fresh()
    config = SandwichConfig(epochs=6, batch_size=32, limit=320, seed=5, device="cpu", augment=False, learning_rate=8e-3)
    train_supernet(supernet, pool, TASK, config)
    resolution = SPACE.family.input_shape(pool.largest, 1)[1]
    train = torch.from_numpy(TASK.normalise(TASK.load(Split.TRAIN, resolution, limit=128).images))
    images, labels = TASK.load(Split.VALIDATION, resolution)
    validation = torch.from_numpy(TASK.normalise(images)), torch.tensor(labels)
    assert subnet_accuracy(supernet, pool.largest, [train], *validation) > 0.5


def test_the_same_seed_gives_the_same_weights(pool: FeasiblePool) -> None:
    first, second = fresh(), fresh()
    histories = [train_supernet(supernet, pool, TASK, CONFIG) for supernet in (first, second)]
    assert histories[0] == histories[1]
    assert all(np.array_equal(array, second.arrays()[name]) for name, array in first.arrays().items())


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(pool: FeasiblePool, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(epoch: SupernetEpoch) -> None:
        raise Killed

    undisturbed, resumed, state = fresh(), fresh(), tmp_path / "supernet.npz"
    whole = train_supernet(undisturbed, pool, TASK, CONFIG)
    with pytest.raises(Killed):
        train_supernet(fresh(), pool, TASK, CONFIG, state=state, on_epoch=kill)
    assert train_supernet(resumed, pool, TASK, CONFIG, state=state) == whole
    assert all(np.array_equal(array, resumed.arrays()[name]) for name, array in undisturbed.arrays().items())


def test_the_state_of_another_training_is_refused(pool: FeasiblePool, tmp_path: Path) -> None:
    state = tmp_path / "supernet.npz"
    train_supernet(fresh(), pool, TASK, SandwichConfig(epochs=1, limit=64, device="cpu"), state=state)
    with pytest.raises(InputError, match="another supernet"):
        train_supernet(fresh(), pool, TASK, SandwichConfig(epochs=2, limit=64, device="cpu"), state=state)


def test_a_training_without_any_time_makes_one_step(pool: FeasiblePool) -> None:
    config = SandwichConfig(epochs=50, batch_size=32, limit=320, device="cpu", seconds=1e-9)
    assert len(train_supernet(fresh(), pool, TASK, config)) == 1


def test_a_training_ends_within_its_seconds_in_the_middle_of_an_epoch(pool: FeasiblePool, tmp_path: Path) -> None:
    config = SandwichConfig(epochs=1000, batch_size=16, device="cpu", seconds=3.0)
    begun = time.process_time()
    history = train_supernet(fresh(), pool, TASK, config, state=tmp_path / "supernet.npz")
    assert time.process_time() - begun == pytest.approx(3.0, rel=0.1)
    assert len(history) < 1000


def test_a_training_that_used_its_seconds_is_not_gone_on_with(pool: FeasiblePool, tmp_path: Path) -> None:
    config, state, told = replace(CONFIG, epochs=99, seconds=0.5), tmp_path / "supernet.npz", list[SupernetEpoch]()
    first, second = fresh(), fresh()
    history = train_supernet(first, pool, TASK, config, state=state)
    assert train_supernet(second, pool, TASK, config, state=state, on_epoch=told.append) == history
    assert told == [history[-1]]
    assert all(np.array_equal(array, second.arrays()[name]) for name, array in first.arrays().items())


def test_settings_that_cannot_train_are_refused() -> None:
    settings: list[dict[str, Any]] = [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"random_subnets": -1}]
    for bad in settings:
        with pytest.raises(ConfigError, match="supernet"):
            SandwichConfig(**bad)
