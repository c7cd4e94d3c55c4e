from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from lanefit.common.errors import ConfigError, UnknownNameError
from lanefit.models.layers import LayerBuilder
from lanefit.models.network import ConvLayer, LayerNetwork
from lanefit.models.registry import find_task
from lanefit.nas import training
from lanefit.nas.augment import augment
from lanefit.nas.devices import resolve_device
from lanefit.nas.training import EpochReport, Stop, TrainConfig, evaluate, train

DIGITS = find_task("digits")
QUICK = TrainConfig(epochs=3, batch_size=64, learning_rate=2e-2, device="cpu", limit=640)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from a second thread and lose much where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(seed: int = 0) -> LayerNetwork:
    net = LayerBuilder((1, 8, 8))
    net.conv("stem", 16, kernel=3, activation="relu")
    net.conv("branch", 16, kernel=3)
    net.add("sum", "stem")
    net.conv("down", 32, kernel=3, stride=2, activation="relu")
    net.classifier(10)
    return LayerNetwork(net.layers(), seed=seed)


def weights(module: nn.Module) -> list[torch.Tensor]:
    return list(module.state_dict().values())


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("batches", range(1, 9))
def test_however_few_batches_there_are_the_rate_rises_and_falls(batches: int) -> None:
    few = TrainConfig(epochs=1, batch_size=8, limit=8 * batches, device="cpu", augment=False)
    result = train(tiny(), DIGITS, few)
    assert (result.stop, result.epochs_run) == (Stop.FINISHED, 1)
    assert math.isfinite(result.history[0].loss)


def test_training_learns_and_reports_the_accuracies_of_what_it_keeps() -> None:
    module = tiny()
    result = train(module, DIGITS, dataclasses.replace(QUICK, limit=None))
    assert (result.stop, result.epochs_run, result.device) == (Stop.FINISHED, 3, "cpu")
    assert result.history[-1].loss < result.history[0].loss
    assert result.accuracy_test > 0.8
    assert result.accuracy_validation == max(report.accuracy_validation for report in result.history)
    images, labels = DIGITS.load("test", 8)
    assert evaluate(module, DIGITS.normalise(images), np.array(labels)) == result.accuracy_test
    assert not module.training
    assert all(value.is_contiguous() for value in weights(module))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    modules = [tiny() for _ in range(3)]
    for module, seed in zip(modules, (1, 1, 2), strict=True):
        torch.rand(seed)  # the global state must not matter
        train(module, DIGITS, dataclasses.replace(QUICK, epochs=1, seed=seed))
    first, same, other = map(weights, modules)
    assert equal(first, same)
    assert not equal(first, other)


def test_training_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    train(tiny(), DIGITS, dataclasses.replace(QUICK, epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_a_pruned_run_equals_the_beginning_of_the_full_one() -> None:
    full = train(tiny(), DIGITS, QUICK)
    pruned = train(tiny(), DIGITS, QUICK, on_epoch=lambda report: report.epoch < 2)
    assert (pruned.stop, pruned.epochs_run) == (Stop.PRUNED, 2)
    strip = [dataclasses.replace(report, seconds=0.0) for report in full.history[:2]]
    assert [dataclasses.replace(report, seconds=0.0) for report in pruned.history] == strip


def test_a_callback_that_returns_nothing_only_watches() -> None:
    seen: list[EpochReport] = []
    result = train(tiny(), DIGITS, QUICK, on_epoch=seen.append)
    assert tuple(seen) == result.history
    assert [report.epoch for report in seen] == [1, 2, 3]


def test_training_stops_early_without_progress_and_restores_the_best_state() -> None:
    # so small a rate changes no prediction: every epoch ties with the first or is worse
    config = dataclasses.replace(QUICK, epochs=20, learning_rate=1e-9, patience=2, augment=False, limit=64)
    result = train(tiny(), DIGITS, config)
    assert result.stop is Stop.EARLY
    assert result.epochs_run < 20
    assert result.accuracy_validation == max(report.accuracy_validation for report in result.history)


def test_a_diverging_run_is_reported_and_keeps_finite_weights() -> None:
    module = tiny()
    poison = module.steps["stem"]
    assert isinstance(poison, ConvLayer)

    def spoil(report: EpochReport) -> None:
        if report.epoch == 1:
            nn.init.constant_(poison.conv.weight, math.nan)

    result = train(module, DIGITS, QUICK, on_epoch=spoil)
    assert (result.stop, result.epochs_run) == (Stop.DIVERGED, 1)
    assert all(torch.isfinite(value).all() for value in weights(module))
    assert result.accuracy_validation == result.history[0].accuracy_validation


def test_learnt_weights_are_kept_when_not_training_from_scratch() -> None:
    for from_scratch, silent in ((True, True), (False, False)):
        module = tiny()
        branch = module.steps["branch"]
        assert isinstance(branch, ConvLayer)
        config = dataclasses.replace(QUICK, epochs=1, learning_rate=1e-9, from_scratch=from_scratch, limit=64)
        train(module, DIGITS, config)
        assert bool((branch.norm.weight.abs() < 1e-3).all()) is silent


def test_evaluation_counts_hits_and_keeps_the_mode() -> None:
    labels = torch.arange(600) % 3
    module = nn.Sequential(nn.Flatten(), nn.Identity()).train()
    images = torch.nn.functional.one_hot(labels, 3).float().reshape(600, 3, 1, 1)
    assert evaluate(module, images, labels) == 1.0
    assert evaluate(module, images, (labels + (torch.arange(600) < 60)) % 3) == 0.9
    assert module.training


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"epochs": 0}, "epochs cannot be 0"),
        ({"learning_rate": math.nan}, "learning_rate cannot be nan"),
        ({"weight_decay": -1.0}, "weight_decay cannot be -1"),
        ({"label_smoothing": 1.0}, "label_smoothing must be below 1"),
        ({"batch_size": 1}, "batch_size at least 2"),
        ({"patience": 0}, "patience cannot be 0"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_a_bad_setting_is_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=what):
        TrainConfig(**change)  # pyright: ignore[reportArgumentType]


def test_devices_are_resolved_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="no CUDA GPU"):
        resolve_device("cuda")


@pytest.mark.parametrize(("terminal", "wanted"), [(True, True), (False, False)])
def test_a_bar_is_drawn_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool, wanted: bool) -> None:
    drawn = io.StringIO()
    monkeypatch.setattr(training, "Console", lambda stderr: Console(file=drawn, force_terminal=terminal))
    train(tiny(), DIGITS, dataclasses.replace(QUICK, epochs=1, limit=64), progress=True)
    assert ("train on digits" in drawn.getvalue()) is wanted


def test_augmentation_moves_images_a_little_and_repeats_with_its_seed() -> None:
    images = torch.zeros(32, 1, 17, 17)
    images[:, :, 8, 8] = 1
    first, same = (augment(images, torch.Generator().manual_seed(4), flip=True) for _ in range(2))
    assert torch.equal(first, same)
    rows, columns = torch.meshgrid(torch.arange(17.0), torch.arange(17.0), indexing="ij")
    mass = first.sum((1, 2, 3))
    centres = torch.stack([(first[:, 0] * axis).sum((1, 2)) / mass for axis in (rows, columns)])
    assert float((centres - 8).abs().max()) < 0.08 * 17 + 1
    assert len(centres.T.unique(dim=0)) == 32


def test_only_flipped_tasks_are_mirrored() -> None:
    images = torch.zeros(64, 1, 16, 16)
    images[:, :, :, :8] = 1  # bright on the left
    for flip in (False, True):
        out = augment(images, torch.Generator().manual_seed(0), flip=flip)
        mirrored = out[..., :8].sum((1, 2, 3)) < out[..., 8:].sum((1, 2, 3))
        assert 10 < int(mirrored.sum()) < 54 if flip else not mirrored.any()
