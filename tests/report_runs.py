"""Searches over a real family with closed formulas for cost and accuracy: reports with everything in them, fast."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from nas_fakes import FakeBench

from lanefit.models.architecture import Architecture
from lanefit.models.registry import families
from lanefit.nas.config import SearchConfig
from lanefit.nas.report.source import Source, read_source
from lanefit.nas.scoring import Cost
from lanefit.nas.search import run_search
from lanefit.nas.space import Space

KNOBS: dict[str, list[bool | int | float | str]] = {
    "resolution": [16],
    "activation": ["relu"],
    "depth_multiplier": [1.0],
    "stages": [2],
    "stem_channels": [8, 16, 32],
    "stage1_channels": [8, 16, 32],
    "stage2_channels": [16, 32, 48],
}


def small_space() -> Space:
    return Space.of(families.get("ibn-classifier")).restrict(KNOBS, where="knobs")


@dataclass
class FormulaBench(FakeBench):
    """Latency follows MACs, measured ones by `measured_factor`; accuracy and scores follow parameters."""

    space: Space = field(default_factory=small_space)

    def estimate(self, architecture: Architecture) -> Cost:
        layers = families.get("ibn-classifier").layers(architecture, input_channels=1, classes=10)
        macs, weights = sum(layer.macs for layer in layers), sum(layer.weights for layer in layers)
        latency = macs / 1e4
        return Cost(latency, 1.05 * latency, 4 * weights, weights, weights, macs)

    def estimate_quietly(self, architecture: Architecture) -> float:
        return self.estimate(architecture).latency_us

    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        return {"size": math.log(self.estimate(architecture).weight_bytes)}


def formula_run(path: Path, measured_factor: float = 1.02, **changes: object) -> Source:
    """A finished search in `path`, as a report reads it."""
    settings = {
        "family": "ibn-classifier",
        "task": "digits",
        "target": "ne-64",
        "trials": 24,
        "finalists": 3,
        "seed": 5,
    }
    budgets = {"latency": "250us", "accuracy": "50%"}
    config = SearchConfig().replaced(**{**settings, "budgets": budgets, "knobs": KNOBS, "curate": False, **changes})
    run_search(config, path, FormulaBench(measured_factor=measured_factor), command=["lanefit", "search"])
    return read_source(path)
