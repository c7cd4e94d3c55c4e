"""`ModelCard`: what a fitted estimator was fitted on and how well it did on what it had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.environment import versions
from ..common.files import stable_hash
from ..kernels.subgraph import Kind
from .features import KINDS
from .measurement import Measurement
from .metrics import Accuracy, accuracy

_DISTRIBUTIONS = ("lanefit", "numpy", "scikit-learn")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """`errors` holds the held-out accuracy of subgraph latencies by kind and under "all"; `network` that of whole
    networks; one in about twenty takes longer than `network_upper` times what is predicted."""

    target: str
    target_digest: str
    toolchain: str
    data_hash: str
    seed: int
    trees: int
    train_count: int
    held_out_count: int
    network_count: int
    network_upper: float
    errors: Mapping[str, Accuracy]
    network: Accuracy
    box: Mapping[str, Any]
    versions: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def rows(self) -> list[tuple[str, Accuracy]]:
        """Kind and held-out accuracy for a report, "all" and whole networks last."""
        kinds = [(kind, found) for kind, found in sorted(self.errors.items()) if kind != "all"]
        return [*kinds, ("all", self.errors["all"]), ("networks", self.network)]


def data_hash(measurements: Sequence[Measurement]) -> str:
    """Hash of workloads and samples, whatever their order."""
    return stable_hash(sorted([m.key.workload.digest(), m.unit, list(m.samples)] for m in measurements))


def errors_by_kind(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], kinds: NDArray[np.int64]
) -> dict[str, Accuracy]:
    """Accuracy of each kind that occurs, and of all."""
    found = {"all": accuracy(predicted, measured)}
    for number in np.unique(kinds):
        kind: Kind = KINDS[int(number)]
        found[str(kind)] = accuracy(predicted[kinds == number], measured[kinds == number])
    return found


def package_versions() -> dict[str, str]:
    return versions(_DISTRIBUTIONS)
