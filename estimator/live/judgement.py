"""What a live calibration is worth: predictions of whole networks, which it never saw, beside their measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...common.files import stable_hash
from ..metrics import Accuracy, accuracy
from .additive import AdditiveModel
from .calibrate import network_sum
from .executed import ExecutedGraph
from .files import CalibratedDevice
from .store import LiveMeasurement

_Z90 = 1.645  # a normal variable lies within so many deviations in nine of ten cases
_LEAST = 0.05  # of the prediction: the lower end of an interval stays above it


@dataclass(frozen=True, slots=True)
class LiveEstimate:
    """Predicted latency of one network; nine measurements of ten lie between the ends."""

    latency_us: float
    lower_us: float
    upper_us: float


@dataclass(frozen=True, slots=True)
class LiveCard:
    """device, toolchain: where the pieces were measured. networks: accuracy on whole networks, none of which was
    part of the fit; kinds: of how many measured pieces each kind of operator is a part."""

    device: str
    toolchain: str
    data_hash: str
    pieces: int
    kinds: dict[str, int]
    networks: Accuracy | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate_live(calibrated: CalibratedDevice, graphs: Sequence[ExecutedGraph]) -> list[LiveEstimate]:
    """Estimates of networks as the calibrated runtime executes them."""
    latency, deviation = calibrated.model.predict([network_sum(graph, calibrated.caches) for graph in graphs])
    half = _Z90 * deviation
    lower = np.maximum(latency - half, _LEAST * latency)
    rows = zip(latency.tolist(), lower.tolist(), (latency + half).tolist(), strict=True)
    return [LiveEstimate(*row) for row in rows]


def live_card(calibrated: CalibratedDevice, networks: Sequence[LiveMeasurement]) -> LiveCard:
    """The card of a calibration, judged by measured networks."""
    model = calibrated.model
    judged = None
    if networks:
        predicted, _ = model.predict([network.definition for network in networks])
        judged = accuracy(predicted, [network.measured.latency_us for network in networks])
    return LiveCard(calibrated.device, calibrated.toolchain, _hash(model), len(model.sums), _kinds(model), judged)


def _hash(model: AdditiveModel) -> str:
    pairs = zip(model.sums, model.latency_us, strict=True)
    return stable_hash(sorted([total.digest, latency] for total, latency in pairs))


def _kinds(model: AdditiveModel) -> dict[str, int]:
    found: dict[str, int] = {}
    for total in model.sums:
        for kind in sorted({term.operator.kind for term in total.terms}):
            found[kind] = found.get(kind, 0) + 1
    return dict(sorted(found.items()))
