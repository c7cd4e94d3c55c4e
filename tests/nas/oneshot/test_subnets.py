"""What a trained supernet says of an architecture is what a plain module with its weights does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lanefit.models.registry import families, find_task
from lanefit.models.tasks import Split, Task
from lanefit.nas.oneshot.pool import FeasiblePool, feasible_pool
from lanefit.nas.oneshot.sandwich import TIMED_STEPS, SandwichConfig, epoch_seconds, train_supernet
from lanefit.nas.oneshot.subnets import VALIDATION, TrainedSupernet
from lanefit.nas.oneshot.supernet import Supernet
from lanefit.nas.space import Space
from lanefit.nas.training import TrainConfig, evaluate
from lanefit.nas.workbench import ModelWorkbench

TASK: Task = find_task("digits")
CONFIG = SandwichConfig(epochs=3, batch_size=32, limit=320, seed=5, device="cpu", augment=False, learning_rate=8e-3)


class NoEstimate:
    """These tests ask for no cost."""

    def estimate(self, graph):  # noqa: ANN001, ANN201
        raise AssertionError(graph)


@pytest.fixture(scope="module")
def space() -> Space:
    return Space.of(families.get("ibn-classifier")).restrict({
        "resolution": [16], "stages": [2], "depth_multiplier": [1], "stem_channels": [8, 16], "stem_stride": [2],
        "head_channels": [64], "stage1_depth": [1], "stage2_depth": [1, 2], "stage1_expansion": [1, 2],
        "stage2_expansion": [2], "stage2_stride": [2], "stage1_channels": [8, 16], "stage2_channels": [16, 24],
    })  # fmt: skip


@pytest.fixture(scope="module")
def pool(space: Space) -> FeasiblePool:
    def size(architecture) -> float:  # noqa: ANN001
        return sum(layer.macs for layer in space.family.layers(architecture, input_channels=1, classes=10))

    return feasible_pool(space, size, seed=0, count=8)


@pytest.fixture(scope="module")
def trained(space: Space, pool: FeasiblePool) -> TrainedSupernet:
    supernet = Supernet(space, TASK.channels, TASK.classes, seed=1)
    train_supernet(supernet, pool, TASK, CONFIG)
    return TrainedSupernet(supernet, TASK)


def test_the_weights_of_a_subnet_have_the_accuracy_that_it_was_judged_by(
    trained: TrainedSupernet, pool: FeasiblePool
) -> None:
    images, labels = TASK.load(Split.VALIDATION, 16, limit=VALIDATION)
    for member in (pool.smallest, pool.largest):
        module = trained.supernet.family.build(member, input_channels=1, classes=10, seed=9)
        module.load_state_dict({name: torch.from_numpy(array) for name, array in trained.weights(member).items()})
        assert evaluate(module, TASK.normalise(images), labels) == trained.accuracy(member)


def test_a_training_that_begins_with_shared_weights_is_ahead_of_one_from_scratch(
    space: Space, trained: TrainedSupernet, pool: FeasiblePool
) -> None:
    settings = TrainConfig(epochs=1, limit=64, device="cpu", learning_rate=1e-4)
    bench = ModelWorkbench(space, TASK, NoEstimate(), train_config=settings)
    weights = trained.weights(pool.largest)
    ahead = bench.train(pool.largest, 0, lambda *_: True, start=weights)
    scratch = bench.train(pool.largest, 0, lambda *_: True)
    assert ahead.accuracy > scratch.accuracy + 0.2


def test_a_workbench_trains_the_epochs_that_it_is_told_and_resumes(
    space: Space, pool: FeasiblePool, tmp_path: Path
) -> None:
    bench = ModelWorkbench(space, TASK, NoEstimate(), train_config=TrainConfig(limit=64, device="cpu"))
    done: list[int] = []
    state = tmp_path / "supernet.npz"
    first = bench.supernet(pool, 3, epochs=2, seconds=None, state=state, on_epoch=done.append)
    again = bench.supernet(pool, 3, epochs=2, seconds=None, state=state, on_epoch=done.append)
    assert done == [1, 2, 2]  # the last one again, as what was restored
    assert first.accuracy(pool.smallest) == again.accuracy(pool.smallest)


def test_the_seconds_of_an_epoch_are_those_of_its_steps(
    space: Space, pool: FeasiblePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 103.0])  # before and after the timed steps
    monkeypatch.setattr("lanefit.nas.oneshot.sandwich.time.process_time", lambda: next(clock))
    config = SandwichConfig(batch_size=16, limit=160, device="cpu", augment=False)
    assert epoch_seconds(Supernet(space, TASK.channels, TASK.classes), pool, TASK, config) == 3.0 / TIMED_STEPS * 10
