"""`Measurement`: what one piece of work took on one device, with everything needed to judge or repeat it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeAlias

from ..common.errors import EstimatorError
from ..common.files import stable_hash
from ..kernels.kernel import Tiling
from ..kernels.subgraph import Subgraph, subgraph_from_dict

# What decides the cycles of a graph and the features of its workloads, by package.
_TOOLCHAIN = {
    "targets": ("cost", "costing", "isa", "labelling", "program", "resolve", "spec", "timing"),
    "kernels": (
        "builder",
        "chain",
        "conv",
        "function_ops",
        "kernel",
        "ops",
        "pipeline",
        "search",
        "subgraph",
        "traits",
        "vector",
    ),
    "export": ("allocate", "graph", "lower", "overlap", "overwrite", "partition", "plan", "planned", "tiling"),
    "estimator": ("boundary", "features", "physics", "runner", "traffic"),
}
TimeUnit: TypeAlias = Literal["cycles", "us"]


@dataclass(frozen=True, slots=True)
class Workload:
    """A subgraph as the compiler runs it: the unit of measuring and of predicting."""

    subgraph: Subgraph
    tiling: Tiling

    def as_dict(self) -> dict[str, Any]:
        return {"subgraph": self.subgraph.as_dict(), "tiling": asdict(self.tiling)}

    def digest(self) -> str:
        """Stable across processes."""
        return stable_hash(self.as_dict())

    def family(self) -> str:
        """Shared by every tiling and memory placement of the same operators; a held-out split never cuts a family."""
        return stable_hash(self.subgraph.as_dict()["ops"])


def workload_from_dict(value: dict[str, Any]) -> Workload:
    """The inverse of `Workload.as_dict`; a malformed value raises `EstimatorError`."""
    try:
        return Workload(subgraph_from_dict(value["subgraph"]), Tiling(**value["tiling"]))
    except (KeyError, TypeError, ValueError) as error:
        raise EstimatorError(f"malformed workload: {error}", hint="measure it again") from error


@dataclass(frozen=True, slots=True)
class MeasurementKey:
    """Workload × target digest × toolchain hash: two measurements with equal keys may replace each other."""

    workload: Workload
    target: str
    toolchain: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw samples, all in `unit`; `samples` are latencies of the workload alone.

    `phases` are further durations in the same unit that the boundary model needs (see `runner.PHASES`);
    `device` is the state of the device while it measured: clock, versions, temperature, whatever there is.
    """

    key: MeasurementKey
    unit: TimeUnit
    samples: tuple[float, ...]
    phases: Mapping[str, float] = field(default_factory=dict)
    device: Mapping[str, str | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.samples or min(self.samples) <= 0:
            raise EstimatorError(
                f"a latency must be positive, got samples {self.samples}", where=str(self.key.workload.subgraph.kind)
            )

    @property
    def latency(self) -> float:
        """Median of the samples, in `unit`."""
        return median(self.samples)


@lru_cache(maxsize=1)
def toolchain_hash() -> str:
    """Hash of the sources behind a measurement: what other sources measured is not reused."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for package, modules in _TOOLCHAIN.items():
        for module in modules:
            digest.update(f"{package}/{module}\0".encode() + (root / package / f"{module}.py").read_bytes() + b"\0")
    return digest.hexdigest()[:16]
