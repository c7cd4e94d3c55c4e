"""Training of a supernet: the sandwich rule with in-place distillation (Yu & Huang 2019, arXiv:1903.05134).

Every step trains the largest architecture of the pool on the labels, and the smallest and some random ones on what the
largest one says. All of them are inside the budget. State is stored after epochs, so that a killed training goes on;
without a limit of seconds it ends with the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.errors import ConfigError, InputError
from ...models.architecture import Architecture
from ...models.tasks import Split, Task
from ..augment import augment
from ..devices import resolve_device
from ..weights import read_weights, save_weights
from .pool import FeasiblePool
from .supernet import Supernet

TIMED_STEPS = 6
STORING_SHARE = 0.05  # of the time since the state was stored last, at most, goes to storing it again
_WARM_UP = 0.1  # of all steps, with a learning rate that rises; it falls as a cosine afterwards


@dataclass(frozen=True, slots=True)
class SandwichConfig:
    """How to train. `random_subnets` beside the largest and the smallest in each step; `limit`: the first so many
    training images only; `seconds`: the training ends within so much processor time, storing included, in the middle of
    an epoch if need be, and the learning rate falls accordingly (the result then depends on the machine); None for all
    `epochs`. At least one step is made."""

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    random_subnets: int = 2
    seed: int = 0
    device: str = "auto"
    augment: bool = True
    limit: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size - 1) < 1 or self.random_subnets < 0 or not self.learning_rate > 0:
            raise ConfigError("a supernet needs an epoch, two images a batch and a learning rate", where="supernet")


@dataclass(frozen=True, slots=True)
class SupernetEpoch:
    """One finished epoch, from 1; mean losses of the largest architecture (labels) and of the others (its words)."""

    epoch: int
    epochs: int
    loss: float
    distillation: float


OnSupernetEpoch = Callable[[SupernetEpoch], None]


def train_supernet(
    supernet: Supernet, pool: FeasiblePool, task: Task, config: SandwichConfig, *,
    state: Path | None = None, on_epoch: OnSupernetEpoch | None = None, begun: float | None = None,
) -> tuple[SupernetEpoch, ...]:  # fmt: skip
    """Trains the shared weights in place; `state` is where they are kept between sittings.

    `config.seconds` count from `begun`, a reading of `time.process_time`, or from the call; `on_epoch` hears also of
    the last epoch of an earlier sitting.

    Raises:
        InputError: `state` is damaged, or belongs to another training.
    """
    timer = _Timer(config.seconds, time.process_time() if begun is None else begun)
    run = _Run(supernet, pool, task, config, timer)
    history = run.restore(state) if state is not None and state.exists() else []
    tell = on_epoch or _unheard
    for epoch in history[-1:]:
        tell(epoch)
    while not run.finished(history):
        history.append(run.epoch(len(history) + 1))
        if state is not None and (run.finished(history) or timer.may_store()):
            with timer.storing():
                run.store(state, history)
        tell(history[-1])
    supernet.to(torch.device("cpu"))
    return tuple(history)


def _unheard(epoch: SupernetEpoch) -> None:
    """Progress that nobody watches."""


class _Timer:
    """Processor seconds of a training over all its sittings, and what storing its state takes of them."""

    def __init__(self, seconds: float | None, begun: float) -> None:
        self.seconds, self._begun, self._store, self._stored_at = seconds, begun, 0.0, begun

    @property
    def spent(self) -> float:
        return time.process_time() - self._begun

    @property
    def share(self) -> float:
        """What is over of the seconds, in 0..1; 0 where they are not limited."""
        if self.seconds is None:
            return 0.0
        left = self.seconds - self._store
        return min(self.spent / left, 1.0) if left > 0 else 1.0

    def resume(self, spent: float) -> None:
        self._begun -= spent

    def may_store(self) -> bool:
        return self._store <= STORING_SHARE * (time.process_time() - self._stored_at)

    @contextmanager
    def storing(self) -> Iterator[None]:
        begun = time.process_time()
        yield
        self._stored_at = time.process_time()
        self._store = self._stored_at - begun


def epoch_seconds(supernet: Supernet, pool: FeasiblePool, task: Task, config: SandwichConfig) -> float:
    """Processor seconds that an epoch takes, from a few steps; they change `supernet`, which is to be thrown away."""
    run, rng = _Run(supernet, pool, task, config, _Timer(None, 0.0)), np.random.default_rng(config.seed)
    for resolution in {run.resolution(member) for member in pool.members}:
        run.pixels(resolution)  # read once for all epochs
    chosen = torch.arange(run.batch_size)
    run.step(chosen, rng)  # the first one also allocates
    begun = time.process_time()
    for _ in range(TIMED_STEPS):
        run.step(chosen, rng)
    return (time.process_time() - begun) / TIMED_STEPS * run.steps


class _Run:
    def __init__(
        self, supernet: Supernet, pool: FeasiblePool, task: Task, config: SandwichConfig, timer: _Timer
    ) -> None:
        self.supernet, self.pool, self.task, self.config, self.timer = supernet, pool, task, config, timer
        self.device = resolve_device(config.device)
        supernet.to(self.device)
        weights = [p for p in supernet.parameters() if p.ndim > 1]
        others = [p for p in supernet.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.images: dict[int, Tensor] = {}
        self.labels = torch.tensor(task.load(Split.TRAIN, self.resolution(pool.largest), limit=config.limit).labels)
        self.batch_size = min(config.batch_size, len(self.labels))
        self.steps = len(self.labels) // self.batch_size
        self.mean, self.std = (torch.tensor(v, device=self.device).view(-1, 1, 1) for v in (task.mean, task.std))

    def epoch(self, number: int) -> SupernetEpoch:
        """One pass over the training images; everything random follows from the seed and the number of the epoch."""
        rng = np.random.default_rng(np.random.SeedSequence((self.config.seed, number)))
        order = torch.from_numpy(rng.permutation(len(self.labels)))[: self.steps * self.batch_size]
        losses: list[tuple[float, float]] = []
        for step, chosen in enumerate(order.split(self.batch_size)):
            if losses and self.timer.share >= 1:
                break
            self._set_rate(max((number - 1 + step / self.steps) / self.config.epochs, self.timer.share))
            losses.append(self.step(chosen, rng))
        first, second = np.mean(losses, axis=0).tolist()
        return SupernetEpoch(number, self.config.epochs, first, second)

    def finished(self, history: Sequence[SupernetEpoch]) -> bool:
        return len(history) >= self.config.epochs or (len(history) > 0 and self.timer.share >= 1)

    def store(self, path: Path, history: list[SupernetEpoch]) -> None:
        """Weights, the optimiser's averages and the losses so far."""
        arrays = {f"weight|{name}": array for name, array in self.supernet.arrays().items()}
        for index, parameter in enumerate(self.supernet.parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                arrays[f"{name}|{index}"] = value.detach().cpu().numpy()
        spent = self.timer.seconds if self.timer.seconds and self.finished(history) else self.timer.spent
        arrays["spent"] = np.array(spent)  # of a finished training all, though some is kept back for this
        arrays["history"] = np.array([(item.loss, item.distillation) for item in history])
        arrays["identity"] = np.frombuffer(self._identity().encode(), np.uint8)
        save_weights(path, arrays)

    def restore(self, path: Path) -> list[SupernetEpoch]:
        arrays = read_weights(path)
        if bytes(arrays.get("identity", np.zeros(0, np.uint8))).decode(errors="replace") != self._identity():
            raise InputError(
                f"{path.name} belongs to another supernet", where=str(path), hint="remove it to begin anew"
            )
        weights = {name.removeprefix("weight|"): a for name, a in arrays.items() if name.startswith("weight|")}
        self.supernet.load_arrays(weights)
        for index, parameter in enumerate(self.supernet.parameters()):
            names = [name for name in ("step", "exp_avg", "exp_avg_sq") if f"{name}|{index}" in arrays]
            values = {name: torch.from_numpy(np.array(arrays[f"{name}|{index}"])) for name in names}
            if values:
                self.optimizer.state[parameter] = {name: value.to(self.device) for name, value in values.items()}
        self.timer.resume(float(arrays["spent"]))
        losses = arrays["history"].reshape(-1, 2)
        return [SupernetEpoch(n, self.config.epochs, float(a), float(b)) for n, (a, b) in enumerate(losses, start=1)]

    def _identity(self) -> str:
        """What the stored state depends on."""
        c = self.config
        parts = (c.epochs, c.batch_size, c.learning_rate, c.weight_decay, c.label_smoothing, c.random_subnets, c.seed,
                 c.seconds)  # fmt: skip
        digests = [member.digest() for member in (self.pool.smallest, self.pool.largest)]
        return f"{parts} {c.augment} {c.limit} {self.task.name} {len(self.pool.members)} {digests}"

    def step(self, chosen: Tensor, rng: np.random.Generator) -> tuple[float, float]:
        seed = int(rng.integers(2**62))
        labels = self.labels[chosen].to(self.device)
        self.optimizer.zero_grad()
        logits = self.supernet.forward(self.pool.largest, self._batch(self.pool.largest, chosen, seed))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        loss.backward()
        words = logits.detach().softmax(1)
        others = [self.pool.smallest, *(self.pool.draw(rng) for _ in range(self.config.random_subnets))]
        told = [self._listen(architecture, chosen, seed, words) for architecture in others]
        torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), 5.0)
        self.optimizer.step()
        return loss.item(), sum(told) / len(told)

    def _listen(self, architecture: Architecture, chosen: Tensor, seed: int, words: Tensor) -> float:
        logits = self.supernet.forward(architecture, self._batch(architecture, chosen, seed))
        loss = F.cross_entropy(logits, words)
        loss.backward()
        return loss.item()

    def _batch(self, architecture: Architecture, chosen: Tensor, seed: int) -> Tensor:
        """The chosen images at the architecture's resolution; the same seed changes them alike at each."""
        pixels = self.pixels(self.resolution(architecture))[chosen].to(self.device, torch.float32) / 255
        if self.config.augment:
            pixels = augment(pixels, torch.Generator().manual_seed(seed), flip=self.task.flip)
        return ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def pixels(self, resolution: int) -> Tensor:
        if resolution not in self.images:
            found = self.task.load(Split.TRAIN, resolution, limit=self.config.limit).images
            self.images[resolution] = torch.tensor(found)
        return self.images[resolution]

    def resolution(self, architecture: Architecture) -> int:
        return self.supernet.family.input_shape(architecture, self.task.channels)[1]

    def _set_rate(self, done: float) -> None:
        rise = min(1.0, done / _WARM_UP)
        fall = 0.5 * (1 + math.cos(math.pi * max(0.0, done - _WARM_UP) / (1 - _WARM_UP)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * max(0.05, rise) * fall
