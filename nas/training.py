"""The one training loop: for baselines, for the trials of a search and for its finalists.

AdamW under a one-cycle schedule (Smith and Topin 2019) with label smoothing; the best state by validation
accuracy is what stays in the module. On a CPU the same seed and thread count give the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from ..common.errors import ConfigError
from ..models.network import LayerNetwork, silence_residuals
from ..models.tasks import Split, Task
from .augment import augment
from .devices import check_device, resolve_device

EVALUATION_BATCH = 256


class Stop(StrEnum):
    """Why training ended. DIVERGED: the loss was no longer finite."""

    FINISHED = "finished"
    EARLY = "early"
    PRUNED = "pruned"
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train. The schedule always spans all `epochs`, so a pruned run equals the beginning of the full one.

    `patience`: epochs without a better validation accuracy before stopping, None for never. `limit`: train on the
    first so many images only. `from_scratch`: residual branches start silent; False keeps weights that were learnt.
    """

    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 8e-3  # peak of the cycle
    seed: int = 0
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    patience: int | None = None
    device: str = "auto"
    augment: bool = True
    limit: int | None = None
    from_scratch: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("seed", "weight_decay", "label_smoothing") else 1e-12
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not least <= value < math.inf:
                raise ConfigError(f"{field.name} cannot be {value}", where=f"training.{field.name}")
        check_device(self.device)
        if self.label_smoothing >= 1 or self.batch_size < 2:
            raise ConfigError("label_smoothing must be below 1 and batch_size at least 2", where="training")


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One finished epoch, counted from 1. Accuracies are shares in 0..1, `loss` is the mean over training batches."""

    epoch: int
    epochs: int
    loss: float
    accuracy_validation: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The outcome; accuracies are those of the state that was kept. `seconds` is wall time, not for artefacts."""

    history: tuple[EpochReport, ...]
    accuracy_validation: float
    accuracy_test: float
    epochs_run: int
    stop: Stop
    device: str
    seconds: float


class Sized(Protocol):
    """What the modules of every family carry."""

    input_shape: tuple[int, int, int]


def train(
    module: nn.Module,
    task: Task,
    config: TrainConfig,
    *,
    on_epoch: Callable[[EpochReport], bool | None] | None = None,
    progress: bool = False,
) -> TrainResult:
    """Trains `module` in place and leaves it in eval mode on the CPU; its attribute `input_shape` tells the resolution.

    `on_epoch` sees every epoch and stops the training by returning False. A bar is drawn on stderr if that is a
    terminal.
    """
    start = time.perf_counter()
    run = _Run(module, task, config)
    history: list[EpochReport] = []
    stop = Stop.FINISHED
    with _bar(progress) as bar:
        line = bar.add_task(f"train on {task.name}", total=config.epochs * run.steps_per_epoch, note="")
        for epoch in range(1, config.epochs + 1):
            loss = run.epoch(lambda: bar.advance(line))
            if not math.isfinite(loss):
                stop = Stop.DIVERGED
                break
            report = EpochReport(epoch, config.epochs, loss, run.validate(loss), time.perf_counter() - start)
            history.append(report)
            bar.update(line, note=f"{report.accuracy_validation:.1%}")
            if on_epoch and on_epoch(report) is False:
                stop = Stop.PRUNED
                break
            if config.patience is not None and run.epochs_since_best >= config.patience:
                stop = Stop.EARLY
                break
    validation, test = run.finish()
    seconds = time.perf_counter() - start
    return TrainResult(tuple(history), validation, test, len(history), stop, str(run.device), seconds)


def evaluate(module: nn.Module, images: Tensor | NDArray[np.float32], labels: Tensor | NDArray[np.int64]) -> float:
    """Top-1 accuracy (0..1) in eval mode on normalised float32 `images` (N, C, H, W); the module's mode is kept."""
    images, labels = _tensor(images), _tensor(labels)
    device = next((p.device for p in module.parameters()), images.device)
    was_training, hits = module.training, 0
    module.eval()
    with torch.inference_mode():
        for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
            hits += int((module(x.to(device)).argmax(1).cpu() == y.cpu()).sum())
    module.train(was_training)
    return hits / len(labels)


def _tensor(values: Tensor | NDArray[np.generic]) -> Tensor:
    """Arrays as tensors; read-only ones, such as those of a task, are copied."""
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(values if values.flags.writeable else values.copy())


class _Run:
    """The state of one training: data, optimiser, random streams and the best weights so far."""

    def __init__(self, module: nn.Module, task: Task, config: TrainConfig) -> None:
        self.module, self.task, self.config = module, task, config
        self.device = resolve_device(config.device)
        self.resolution = cast(Sized, module).input_shape[1]
        if config.from_scratch and isinstance(module, LayerNetwork):
            silence_residuals(module)
        # channels last is 2-3 times faster on a CPU, mostly in depthwise convolutions; torch's stub lacks the argument
        module.to(self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images, labels = task.load(Split.TRAIN, self.resolution, limit=config.limit)
        self.images, self.labels = torch.tensor(images), torch.tensor(labels)
        self.mean, self.std = (torch.tensor(v, device=self.device).view(-1, 1, 1) for v in (task.mean, task.std))
        self.validation = self._split(Split.VALIDATION)
        order, change = np.random.SeedSequence(config.seed).generate_state(2).tolist()
        self.order, self.change = (torch.Generator().manual_seed(seed) for seed in (order, change))
        self.batch_size = min(config.batch_size, len(self.labels))
        self.steps_per_epoch = len(self.labels) // self.batch_size
        decay = config.weight_decay
        self.optimizer = torch.optim.AdamW(_groups(module, decay), lr=config.learning_rate, fused=True)
        steps = config.epochs * self.steps_per_epoch + 1
        rise = max(0.2, 1.5 / steps)  # a rise of no steps at all is what torch cannot divide by
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, config.learning_rate, total_steps=steps, pct_start=rise, div_factor=10
        )
        self.best_key, self.best, self.epochs_since_best = (-1.0, 0.0), self._snapshot(), 0

    def epoch(self, on_step: Callable[[], None]) -> float:
        """The mean loss of one pass over the training images; NaN or infinite as soon as one batch is."""
        self.module.train()
        losses: list[float] = []
        for pixels, labels in self._batches():
            loss = F.cross_entropy(self.module(pixels), labels, label_smoothing=self.config.label_smoothing)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                break
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            on_step()
        return sum(losses) / len(losses)

    def validate(self, loss: float) -> float:
        accuracy = evaluate(self.module, *self.validation)
        self.epochs_since_best += 1
        if (accuracy, -loss) >= self.best_key:
            self.best_key, self.best, self.epochs_since_best = (accuracy, -loss), self._snapshot(), 0
        return accuracy

    def finish(self) -> tuple[float, float]:
        """Accuracies of the best state on validation and test images."""
        self.module.load_state_dict(self.best)
        accuracies = evaluate(self.module, *self.validation), evaluate(self.module, *self._split(Split.TEST))
        self.module.eval().cpu().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        return accuracies

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled full batches; what is left over comes up in other epochs."""
        order = torch.randperm(len(self.labels), generator=self.order)
        for chosen in order[: self.steps_per_epoch * self.batch_size].split(self.batch_size):
            pixels = self.images[chosen].to(self.device, torch.float32) / 255
            if self.config.augment:
                pixels = augment(pixels, self.change, flip=self.task.flip)
            pixels = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
            yield pixels, self.labels[chosen].to(self.device)

    def _split(self, split: Split) -> tuple[Tensor, Tensor]:
        images, labels = self.task.load(split, self.resolution)
        return torch.from_numpy(self.task.normalise(images)), torch.tensor(labels)

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.module.state_dict().items()}


def _groups(module: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weights decay; biases and normalisation do not."""
    parameters = list(module.parameters())
    weights, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _bar(enabled: bool) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not (enabled and console.is_terminal))
