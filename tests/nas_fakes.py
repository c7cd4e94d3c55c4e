"""A toy family and a workbench of closed formulas: real Optuna, SQLite and files, no training.

Run as a program it performs one search, or resumes it, and kills itself in the middle:
`python nas_fakes.py DIRECTORY SAMPLER STRATEGY KILL_AT [KILL_TRAINING]`.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from optuna.trial import Trial

from lanefit.common.errors import UnsupportedError
from lanefit.models.architecture import Architecture, Knob, KnobValue
from lanefit.models.family import Family
from lanefit.models.layers import LayerBuilder, LayerSpec, MapShape
from lanefit.nas.config import SearchConfig
from lanefit.nas.oneshot.pool import FeasiblePool
from lanefit.nas.scoring import Cost, OnEpoch, Training
from lanefit.nas.search import run_search
from lanefit.nas.space import Space


class ToyFamily(Family):
    """Up to two convolutions; the knobs of the second one are active only when it is there."""

    name = "toy"
    summary = "two convolutions"

    def knobs(self) -> tuple[Knob, ...]:
        return (
            Knob("depth", (1, 2), "depth"),
            Knob("first_channels", (8, 12, 16, 24, 32), "channels"),
            Knob("first_kernel", (1, 3, 5), "kernel"),
            Knob("second_channels", (8, 16, 24, 40), "channels"),
            Knob("second_block", ("conv", "separable"), "block"),
            Knob("activation", ("relu", "relu6"), "activation"),
        )

    def is_active(self, name: str, values: Mapping[str, KnobValue]) -> bool:
        return values["depth"] == 2 if name.startswith("second") else True

    def active_knobs(self, architecture: Architecture) -> tuple[str, ...]:
        values = self.own(architecture)
        return tuple(knob.name for knob in self.knobs() if self.is_active(knob.name, values))

    def check(self, architecture: Architecture) -> None:
        self.own(architecture)

    def input_shape(self, architecture: Architecture, channels: int) -> MapShape:
        return (channels, 8, 8)

    def layers(self, architecture: Architecture, *, input_channels: int, classes: int) -> tuple[LayerSpec, ...]:
        values = self.own(architecture)
        activation = str(values["activation"])
        net = LayerBuilder(self.input_shape(architecture, input_channels))
        net.conv("first", int(values["first_channels"]), kernel=int(values["first_kernel"]), activation=activation)
        if values["depth"] == 2:
            if values["second_block"] == "separable":
                net.depthwise("spread", kernel=3, stride=2, activation=activation)
            before, shape = net.last, net.shape
            net.conv("second", int(values["second_channels"]), kernel=3, activation=activation)
            if net.shape == shape:
                net.add("sum", before)
        net.classifier(classes)
        return net.layers()


TOY = ToyFamily()


class KillingSpace(Space):
    """Ends the process without warning once its `kill_at`-th suggestion is complete, in the middle of that trial."""

    kill_at = 0
    suggested = 0

    def suggest(self, trial: Trial) -> Architecture:
        architecture = super().suggest(trial)
        KillingSpace.suggested += 1
        if KillingSpace.suggested == KillingSpace.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return architecture


class FakeSubnets:
    """Judges by work, as its trainings do; what it gives to begin with is recognisable."""

    def accuracy(self, architecture: Architecture) -> float:
        return 1 - 1 / math.log(9 + FakeBench().estimate_quietly(architecture))

    def weights(self, architecture: Architecture) -> Mapping[str, NDArray[np.generic]]:
        return {"shared": np.full(1, int(architecture.digest()[:6], 16))}


@dataclass
class FakeBench:
    """Costs and scores grow with channels. Counts what it is asked for."""

    space: Space = field(default_factory=lambda: Space.of(TOY))
    kill_training: int = 0
    interrupt_at: int = 0
    refuse_kernel: int = 0
    measured_factor: float | None = None
    estimates: int = 0
    scored: int = 0
    trainings: int = 0
    epochs_seen: int = 0
    inherited: list[bool] = field(default_factory=list)
    pools: list[FeasiblePool] = field(default_factory=list)
    starts: list[Mapping[str, NDArray[np.generic]] | None] = field(default_factory=list)

    def estimate(self, architecture: Architecture) -> Cost:
        self.estimates += 1
        if self.estimates == self.interrupt_at:
            raise KeyboardInterrupt
        values = architecture.values
        if values["first_kernel"] == self.refuse_kernel:
            raise UnsupportedError(f"kernel {self.refuse_kernel} is too wide")
        work = int(values["first_channels"]) * int(values["first_kernel"]) ** 2 + 3 * int(
            values.get("second_channels", 0)
        )
        return Cost(float(work), work * 1.1, 100 * work, 10 * work, 50 * work, 1000 * work)

    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        self.scored += 1
        noise = np.random.default_rng([seed, int(architecture.digest()[:8], 16)])
        work = self.estimate_quietly(architecture)
        flat = math.log(work) + float(noise.normal())
        return {"a": flat, "b": -math.inf if architecture.values["first_kernel"] == 1 else float(noise.normal())}

    def estimate_quietly(self, architecture: Architecture) -> float:
        return FakeBench().estimate(architecture).latency_us

    def train(
        self,
        architecture: Architecture,
        seed: int,
        on_epoch: OnEpoch,
        *,
        start: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> Training:
        self.trainings += 1
        self.inherited.append(start is not None)
        self.starts.append(start)
        if self.trainings == self.kill_training:
            os.kill(os.getpid(), signal.SIGKILL)
        final = 1 - 1 / (1 + math.log(self.estimate_quietly(architecture)))
        curve: list[float] = []
        for epoch in range(1, 5):
            curve.append(final * (1 - 0.5**epoch))
            self.epochs_seen += 1
            if not on_epoch(epoch, curve[-1]):
                return Training(curve[-1], tuple(curve), stopped=True)
        return Training(curve[-1], tuple(curve), curve[-1] / 2, weights={"w": np.arange(3.0)})

    def supernet_epochs(self, pool: FeasiblePool, seed: int, seconds: float) -> int:
        return int(seconds)

    def supernet(
        self, pool: FeasiblePool, seed: int, *, epochs: int, seconds: float | None, state: Path,
        on_epoch: Callable[[int], None],
    ) -> FakeSubnets:  # fmt: skip
        self.pools.append(pool)
        for epoch in range(1, (epochs if seconds is None else min(epochs, math.ceil(seconds))) + 1):
            on_epoch(epoch)
        return FakeSubnets()

    def measure(self, architecture: Architecture) -> Cost | None:
        if self.measured_factor is None:
            return None
        latency = self.measured_factor * self.estimate_quietly(architecture)
        return Cost(latency, latency, 100, 10, 50, 1000)


def toy_config(**changes: object) -> SearchConfig:
    settings: dict[str, object] = {
        "family": "toy",
        "trials": 16,
        "finalists": 3,
        "seed": 7,
        "budgets": {"latency": "300us"},
    }
    return SearchConfig().replaced(**{**settings, **changes})


def main(directory: str, sampler: str, strategy: str, kill_at: str, kill_training: str = "0") -> None:
    KillingSpace.kill_at = int(kill_at)
    bench = FakeBench(KillingSpace.of(TOY), kill_training=int(kill_training))
    path = Path(directory)
    objectives = ["score", "latency"] if sampler == "nsga2" else ["score"]
    config = toy_config(sampler=sampler, strategy=strategy, objectives=objectives, trials=28)
    run_search(config, path, bench, resume=(path / "run.json").exists())


if __name__ == "__main__":
    main(*sys.argv[1:])
