"""`ModelWorkbench`: families, tasks, proxies and the training loop behind the seam that searches work on."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.errors import ConfigError, UnsupportedError
from ..estimator.screening import Screened
from ..export.graph import Graph
from ..models.architecture import Architecture
from ..models.family import Family
from ..models.layers import LayerSpec, reaches_output
from ..models.registry import families, find_task
from ..models.tasks import Task
from ..targets.spec import EngineSpec
from .bridge import to_graph
from .config import SearchConfig
from .curation import CurationReport, KeptCuration, curate, curation_key, engine_costs
from .curation.kept import Keeper, nothing_kept
from .devices import resolve_device
from .energy import EnergyModel, energy_model
from .inheritance import inherit
from .oneshot.pool import FeasiblePool
from .oneshot.sandwich import SandwichConfig, SupernetEpoch, epoch_seconds, train_supernet
from .oneshot.subnets import TrainedSupernet
from .oneshot.supernet import Supernet
from .proxies import DEFAULT_PROXIES
from .score_cache import ScoreCache
from .scorer import Scorer, minibatch
from .scoring import Estimate, Estimator, OnEpoch, Training
from .screen import Screen, screen_for
from .space import Space
from .training import EpochReport, Stop, TrainConfig, train
from .weights import state_arrays

Measure = Callable[[Graph], Estimate]


class ModelWorkbench:
    """Costs, scores and trains the architectures of one family on one task.

    `measure` compiles and times a shape-only graph; without it finalists are judged by the estimate.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        estimator: Estimator,
        *,
        proxies: Sequence[str] = DEFAULT_PROXIES,
        train_config: TrainConfig | None = None,
        measure: Measure | None = None,
        score_cache: ScoreCache | None = None,
        energy: EnergyModel | None = None,
        curation: KeptCuration | None = None,
    ) -> None:
        self.space, self.task, self.estimator, self.curation = space, task, estimator, curation
        self._proxies, self._train_config, self._measure = tuple(proxies), train_config or TrainConfig(), measure
        self._score_cache, self._energy = score_cache, energy

    def layers(self, architecture: Architecture) -> tuple[LayerSpec, ...]:
        """The layers of `architecture` for the channels and classes of the task."""
        family: Family = self.space.family
        return family.layers(architecture, input_channels=self.task.channels, classes=self.task.classes)

    def build(self, architecture: Architecture, seed: int) -> torch.nn.Module:
        family: Family = self.space.family
        return family.build(architecture, input_channels=self.task.channels, classes=self.task.classes, seed=seed)

    def estimate(self, architecture: Architecture) -> Estimate:
        layers = self.layers(architecture)
        if not reaches_output(layers):
            raise UnsupportedError(
                "the network's output sees nothing of its input", hint="too many operations are none"
            )
        return self._powered(layers, self.estimator.estimate(to_graph(layers)))

    def screen_many(self, architectures: Iterable[Architecture]) -> list[Screened | None]:
        """Cost from afar of each architecture in order, None for what the target cannot run (`estimate` says why).

        Latencies are always given, but only those of `estimate` are final: ask it for what comes near the budget.

        Raises:
            EstimatorError: hardly any architecture of the space keeps its maps in SRAM, so that nothing can be learned
                about the others; use `estimate`.
        """
        return [self._screened(architecture) for architecture in architectures]

    @cached_property
    def screen(self) -> Screen:
        """What `screen_many` asks; fitted when it is needed first, which takes a second."""
        return screen_for(self.estimator, self.space, self.task)

    def _screened(self, architecture: Architecture) -> Screened | None:
        try:
            return self.screen.of(architecture)
        except UnsupportedError:
            return None

    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        resolution = self.layers(architecture)[0].input_shape[1]
        images, labels = minibatch(self.task, resolution)
        scorer = Scorer(
            self.space.family, images, labels, classes=self.task.classes, proxies=self._proxies, seed=seed,
            cache=self._score_cache,
        )  # fmt: skip
        return scorer(architecture).scores

    def train(
        self,
        architecture: Architecture,
        seed: int,
        on_epoch: OnEpoch,
        *,
        start: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> Training:
        def report(epoch: EpochReport) -> bool:
            return on_epoch(epoch.epoch, epoch.accuracy_validation)

        module = self.build(architecture, seed)
        settings = {field.name: getattr(self._train_config, field.name) for field in fields(TrainConfig)}
        if start is not None:
            inherit(module, start)
        settings |= {"seed": seed, "from_scratch": settings["from_scratch"] and start is None}
        result = train(module, self.task, TrainConfig(**settings), on_epoch=report)
        return Training(
            accuracy=result.accuracy_validation,
            curve=tuple(entry.accuracy_validation for entry in result.history),
            accuracy_test=result.accuracy_test,
            stopped=result.stop is Stop.PRUNED,
            weights=state_arrays(module),
        )

    def supernet_epochs(self, pool: FeasiblePool, seed: int, seconds: float) -> int:
        once = epoch_seconds(self._supernet(seed), pool, self.task, self._sandwich(seed, epochs=1))
        return int(seconds / once)

    def supernet(
        self, pool: FeasiblePool, seed: int, *, epochs: int, seconds: float | None, state: Path,
        on_epoch: Callable[[int], None],
    ) -> TrainedSupernet:  # fmt: skip
        begun = time.process_time()
        found, settings = self._supernet(seed), replace(self._sandwich(seed, epochs), seconds=seconds)

        def report(done: SupernetEpoch) -> None:
            on_epoch(done.epoch)

        train_supernet(found, pool, self.task, settings, state=state, begun=begun, on_epoch=report)
        return TrainedSupernet(found, self.task, resolve_device(settings.device))

    def _supernet(self, seed: int) -> Supernet:
        return Supernet(self.space, self.task.channels, self.task.classes, seed=seed)

    def _sandwich(self, seed: int, epochs: int) -> SandwichConfig:
        """The search's training settings, as far as they concern a supernet."""
        given = self._train_config
        shared = {"device": given.device, "augment": given.augment, "limit": given.limit}
        return SandwichConfig(epochs=epochs, seed=seed, label_smoothing=given.label_smoothing, **shared)

    def measure(self, architecture: Architecture) -> Estimate | None:
        if self._measure is None:
            return None
        layers = self.layers(architecture)
        return self._powered(layers, self._measure(to_graph(layers)))

    def _powered(self, layers: Sequence[LayerSpec], found: Estimate) -> Estimate:
        """Energies are estimates also where times are measured: nothing here measures them."""
        return self._energy.of(layers, found) if self._energy else found


def workbench(
    config: SearchConfig,
    estimator: Estimator,
    spec: EngineSpec,
    *,
    measure: Measure | None = None,
    kept: Keeper = nothing_kept,
) -> tuple[ModelWorkbench, CurationReport | None]:
    """The workbench that `config` describes, and what curation for `spec` left out of its space.

    Knobs that the configuration narrows by hand are taken as they are. What `kept` has is used where it followed from
    the same; else the space is curated anew.
    """
    space, settings = check_settings(config)
    task, report, found = find_task(config.task), None, None
    if config.curate:
        space, report, found = _curated(space, estimator, spec, task, config.knobs, kept)
    bench = ModelWorkbench(
        space,
        task,
        estimator,
        proxies=config.proxies,
        train_config=settings,
        measure=measure,
        energy=energy_model(config),
        curation=found,
    )
    return bench, report


def _curated(
    space: Space, estimator: Estimator, spec: EngineSpec, task: Task, leave: Collection[str], kept: Keeper
) -> tuple[Space, CurationReport, KeptCuration | None]:
    shape = {"input_channels": task.channels, "classes": task.classes}
    key = curation_key(space, spec.digest(), estimator, shape, leave)
    known = kept(key) if key else None
    if known is not None and known.key == key:
        return known.space(space), known.report, known
    found, report = curate(space, engine_costs(spec, estimator), leave=leave, **shape)
    return found, report, KeptCuration(key, report) if key else None


def check_settings(config: SearchConfig) -> tuple[Space, TrainConfig]:
    """The space and the training that `config` asks for; raises for every knob, value or setting that there is not."""
    space = Space.of(families.get(config.family)).restrict(config.knobs, where="knobs", ordered=config.ordered)
    settings = train_settings(config.train)
    resolve_device(settings.device)
    return space, settings


def train_settings(values: Mapping[str, Any], *, where: str = "train") -> TrainConfig:
    """The `[train]` table as a `TrainConfig`; the seed is derived from the search and cannot be set there."""
    kinds = {field.name: str(field.type) for field in fields(TrainConfig) if field.name != "seed"}
    for name, value in values.items():
        at = f"{where}:{name}"
        if name not in kinds:
            close = difflib.get_close_matches(name, kinds, n=2)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise ConfigError(f"unknown training setting {name!r}", where=at, hint=f"{hint}known: {', '.join(kinds)}")
        if not _has_kind(value, kinds[name]):
            raise ConfigError(f"{name} must be {kinds[name]}, got {value!r}", where=at)
    return TrainConfig(**values)


def _has_kind(value: object, kind: str) -> bool:
    match kind.removesuffix(" | None"):
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return isinstance(value, str)
