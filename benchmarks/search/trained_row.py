"""One row of `trained.py`: a search and the final training of its winner, out of one budget of processor seconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from lanefit.common.budget import Budget
from lanefit.common.errors import BudgetError
from lanefit.common.files import read_json, write_json
from lanefit.models.architecture import Architecture, KnobValue
from lanefit.models.baselines import mobilenet_v2
from lanefit.models.registry import families
from lanefit.models.tasks import Split, Task
from lanefit.nas.bridge import to_graph
from lanefit.nas.config import SearchConfig
from lanefit.nas.curation import curate, engine_costs
from lanefit.nas.devices import resolve_device
from lanefit.nas.estimators import cached_estimator_path, fit_estimator, open_estimator
from lanefit.nas.measure import engine_measure
from lanefit.nas.results import Finalist, SearchResult
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.scoring import Cost
from lanefit.nas.search import run_search
from lanefit.nas.session import Step
from lanefit.nas.space import Space
from lanefit.nas.strategies import STRATEGIES
from lanefit.nas.training import TrainConfig, train
from lanefit.nas.weights import load_weights
from lanefit.nas.workbench import ModelWorkbench, workbench
from lanefit.targets.spec import EngineSpec, load_spec

FAMILY = "ibn-classifier"
BUDGET_SHARE = 0.5  # of the baseline's compiled latency
SEARCH_SHARE = 0.5  # of the seconds; what a search leaves goes to the final training
TRAININGS = 8  # so many short trainings of the pilot's network fill a search
FEWEST_EPOCHS, MOST_EPOCHS = 3, 200
LEAST_IMAGES = 64  # of a training, however short the budget
TIMED_STEPS, TIMED_BATCH = 8, 32
TYPICAL, TYPICAL_QUANTILE = 12, 0.75  # random networks inside the budget; a search prefers those that use it
SPLITS = {"images": Split.TRAIN, "validation": Split.VALIDATION, "test": Split.TEST}


@dataclass(frozen=True)
class Setting:
    """What all rows have in common. `seconds_per_image` is the pilot's, for one image forward and back; `images`,
    `validation` and `test` are numbers of images; `knobs` is the curated space, which took `curation_seconds`."""

    target: str
    seconds: float
    trials: int
    resolution: int
    budget_us: float
    baseline_us: float
    seconds_per_image: float
    images: int
    validation: int
    test: int
    device: str
    knobs: Mapping[str, list[KnobValue]]
    curation_seconds: float

    def schedule(self, seconds: float, seconds_per_image: float | None = None) -> tuple[int, int | None]:
        """(epochs, limit of images) that `seconds` pay for: all images if that makes `FEWEST_EPOCHS`.

        Every epoch ends with a validation, and a training with another and the test; forward alone is a third.
        """
        extra = self.validation / 3
        affordable = seconds / (seconds_per_image or self.seconds_per_image) - extra - self.test / 3
        epochs = int(affordable / (self.images + extra))
        if epochs >= FEWEST_EPOCHS:
            return min(epochs, MOST_EPOCHS), None
        return FEWEST_EPOCHS, max(LEAST_IMAGES, int(affordable / FEWEST_EPOCHS - extra))


def pilot(task: Task, target: str, seconds: float, trials: int, device: str) -> Setting:
    """Compiles the baseline, curates the space, and times the training of networks that are inside the budget."""
    spec, family = load_spec(target), families.get(FAMILY)
    known = next(knob.values for knob in family.knobs() if knob.name == "resolution")
    resolution = min((int(value) for value in known), key=lambda value: (abs(value - task.resolution), value))
    measure, shape = engine_measure(spec), {"input_channels": task.channels, "classes": task.classes}
    baseline = measure(to_graph(family.layers(mobilenet_v2(0.5, resolution), **shape))).latency_us
    counts = {name: len(task.read(split).labels) for name, split in SPLITS.items()}
    begun = time.process_time()
    space = Space.of(family).restrict({"resolution": [resolution]}, where="pilot")
    space, _ = curate(space, engine_costs(spec, estimator_for(spec, task)), leave=["resolution"], **shape)
    knobs, curation = {knob.name: list(knob.values) for knob in space.knobs}, time.process_time() - begun
    budget = Budget.from_dict({"latency": f"{BUDGET_SHARE * baseline!r}us"}, where="pilot")
    typical = _inside(ModelWorkbench(space, task, estimator_for(spec, task)), budget)
    times = [_seconds_per_image(family.build(each, **shape, seed=0), task.channels, resolution, device)
             for each in typical]  # fmt: skip
    once = float(np.quantile(times, TYPICAL_QUANTILE))
    return Setting(
        target, seconds, trials, resolution, BUDGET_SHARE * baseline, baseline, once, device=device, knobs=knobs,
        curation_seconds=curation, **counts,
    )  # fmt: skip


def _inside(bench: ModelWorkbench, budget: Budget) -> list[Architecture]:
    """Random networks inside the budget."""
    drawn = (bench.space.sample(seed) for seed in itertools.count())
    return list(itertools.islice((a for a in drawn if Cost.of(bench.estimate(a)).check(budget).passed), TYPICAL))


def _seconds_per_image(module: torch.nn.Module, channels: int, resolution: int, device: str) -> float:
    """Processor seconds for each image of a training step, the median of a few."""
    place = resolve_device(device)
    module.to(place).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    images = torch.rand(TIMED_BATCH, channels, resolution, resolution, device=place)
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)

    def step() -> float:
        begun = time.process_time()
        optimizer.zero_grad()
        module(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
        optimizer.step()
        return (time.process_time() - begun) / TIMED_BATCH

    step()  # the first one also allocates
    return median(step() for _ in range(TIMED_STEPS))


def estimator_for(spec: EngineSpec, task: Task) -> Any:
    """The latency estimator of the target: kept between searches, so no part of any budget."""
    family = families.get(FAMILY)
    path = cached_estimator_path(spec, family, task)
    return open_estimator(path, spec, lambda: fit_estimator(spec, family, task), print, print)


def run_row(directory: Path, task: Task, setting: Setting, strategy: str, seed: int) -> dict[str, Any]:
    """Searches, trains the winner with what is left, and returns the row; goes on where an earlier sitting stopped."""
    clock = Clock(directory / "spent.json")
    spec = load_spec(setting.target)
    estimator = estimator_for(spec, task)
    clock.start()
    config = _config(task, setting, strategy, seed)
    bench, _ = workbench(config, estimator, spec, measure=engine_measure(spec))
    search = directory / "search"
    resume = RunDirectory(search).record.exists()
    about = {"strategy": strategy, "seed": seed, "budget_us": setting.budget_us}
    try:
        result = run_search(config, search, bench, resume=resume, progress=clock.on_step)
    except BudgetError as error:
        return {**about, "failed": str(error), "seconds": clock.spent()}
    assert result.winner is not None
    searched = clock.spent()
    final = _final(bench, setting, result.winner, search, seed, setting.seconds - searched)
    return {
        **about, **_latencies(result.winner), **final,
        "accuracy_search": result.winner.accuracy,
        "trials": len(result.trials),
        "trainings": _trainings(result, search / "weights"),
        "search_seconds": searched, "seconds": clock.spent(),
        "search_seconds_allowed": SEARCH_SHARE * setting.seconds,
        "remarks": list(result.warnings), "architecture": result.winner.architecture.as_dict(),
    }  # fmt: skip


def _trainings(result: SearchResult, weights: Path) -> int:
    """Networks that were trained, those included that were stopped or whose weights were not kept."""
    judged = {trial.architecture.digest() for trial in result.trials if trial.accuracy is not None}
    return len(judged | {path.stem for path in weights.glob("*.npz")})


def _config(task: Task, setting: Setting, strategy: str, seed: int) -> SearchConfig:
    seconds = SEARCH_SHARE * setting.seconds
    epochs, limit = setting.schedule(seconds / TRAININGS)
    train: dict[str, Any] = {"epochs": epochs, "device": setting.device, **({"limit": limit} if limit else {})}
    trains = STRATEGIES.get(strategy).trains
    return SearchConfig().replaced(
        family=FAMILY, task=task.name, target=setting.target, strategy=strategy, seed=seed, trials=setting.trials,
        train_seconds=seconds if trains else None, train=train, curate=False, ordered=True,
        knobs={name: list(values) for name, values in setting.knobs.items()},
        budgets={"latency": f"{setting.budget_us!r}us"},
    )  # fmt: skip


def _final(
    bench: ModelWorkbench, setting: Setting, winner: Finalist, search: Path, seed: int, seconds: float
) -> dict[str, Any]:
    """The long training of the winner, from the weights that the search left of it, if any."""
    architecture: Architecture = winner.architecture
    module = bench.build(architecture, seed)
    once = _seconds_per_image(bench.build(architecture, seed), bench.task.channels, setting.resolution, setting.device)
    if winner.weights:
        load_weights(module, search / winner.weights)
    epochs, limit = setting.schedule(max(seconds, 0.0), once)
    config = TrainConfig(epochs=epochs, limit=limit, seed=seed, device=setting.device, from_scratch=not winner.weights)
    begun = time.process_time()
    found = train(module, bench.task, config)
    return {
        "accuracy_test": found.accuracy_test,
        "accuracy_validation": found.accuracy_validation,
        "final_epochs": epochs,
        "final_limit": limit,
        "final_seconds": time.process_time() - begun,
    }


def _latencies(winner: Finalist) -> dict[str, Any]:
    predicted, measured = winner.trial.cost, winner.measured
    assert predicted is not None
    return {
        "predicted_us": predicted.latency_us,
        "upper_us": predicted.latency_upper_us,
        "compiled_us": measured.latency_us if measured else None,
        "sram_bytes": winner.cost.sram_bytes,
        "weight_bytes": winner.cost.weight_bytes,
    }


class Clock:
    """Processor seconds of a row over all its sittings, written down at every step of the search."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = float(read_json(path)["seconds"]) if path.exists() else 0.0
        self._begun = time.process_time()

    def start(self) -> None:
        self._begun = time.process_time()

    def spent(self) -> float:
        return self._before + time.process_time() - self._begun

    def on_step(self, step: Step) -> None:
        write_json(self._path, {"seconds": self.spent()})


def kept(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `path` holds, computed and written the first time."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, compute())
    return read_json(path)


def kept_setting(path: Path, make: Callable[[], Setting]) -> Setting:
    return Setting(**kept(path, lambda: asdict(make())))
