"""What a live calibration is worth: predictions of whole networks, which it never saw, beside their measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any

from ...common.files import stable_hash
from ..metrics import Accuracy, accuracy
from .additive import AdditiveModel
from .box import box_as_dict
from .breakdown import Breakdown, breakdowns, interval
from .calibrate import network_sum
from .executed import ExecutedGraph
from .files import CalibratedDevice
from .operator_costs import Sum
from .passes import with_passes, without_dead
from .store import LiveMeasurement
from .work import work_of

SHARE = 0.05
"""Share of a latency that operators beyond the box may have before the whole estimate counts as extrapolated."""


@dataclass(frozen=True, slots=True)
class LiveEstimate:
    """Predicted latency of one network; nine measurements of ten lie between the ends.

    extrapolated: more than `SHARE` of it belongs to operators beyond what was measured, or one is of an unknown kind.
    """

    latency_us: float
    lower_us: float
    upper_us: float
    extrapolated: bool
    breakdown: Breakdown


@dataclass(frozen=True, slots=True)
class LiveCard:
    """device, toolchain: where the pieces were measured. networks: accuracy on whole networks, none of which was
    part of the fit; kinds: of how many measured pieces each kind of operator is a part; box: by kind of operator and
    extent, the [lowest, highest] that was measured."""

    device: str
    toolchain: str
    data_hash: str
    pieces: int
    kinds: dict[str, int]
    box: dict[str, dict[str, list[float]]]
    networks: Accuracy | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate_live(calibrated: CalibratedDevice, graphs: Sequence[ExecutedGraph]) -> list[LiveEstimate]:
    """Estimates of networks as the calibrated runtime executes them."""
    sums = [executed_sum(calibrated, graph) for graph in graphs]
    latency, deviation = calibrated.model.predict(sums)
    found = breakdowns(calibrated.model, sums, calibrated.box)
    rows = zip(latency.tolist(), deviation.tolist(), found, strict=True)
    return [
        LiveEstimate(
            us,
            *interval(us, hypot(spread, parts.beyond_us)),
            parts.has_unknown or parts.extrapolated_share > SHARE,
            parts,
        )
        for us, spread, parts in rows
    ]


def executed_sum(calibrated: CalibratedDevice, graph: ExecutedGraph) -> Sum:
    """A network as the model sees it, by the rules of its device."""
    return network_sum(without_dead(with_passes(graph, calibrated.rules), calibrated.rules), calibrated.caches)


def live_card(calibrated: CalibratedDevice, networks: Sequence[LiveMeasurement]) -> LiveCard:
    """The card of a calibration, judged by measured networks."""
    model = calibrated.model
    judged = None
    if networks:
        predicted, _ = model.predict([network.definition for network in networks])
        judged = accuracy(predicted, [network.measured.latency_us for network in networks])
    return LiveCard(
        calibrated.device, calibrated.toolchain, _hash(model), len(model.sums), _kinds(model),
        box_as_dict(calibrated.box), judged,
    )  # fmt: skip


def _hash(model: AdditiveModel) -> str:
    pairs = zip(model.sums, model.latency_us, strict=True)
    return stable_hash(sorted([total.digest, latency] for total, latency in pairs))


def _kinds(model: AdditiveModel) -> dict[str, int]:
    found: dict[str, int] = {}
    for total in model.sums:
        for kind in sorted({work_of(term.operator).kind for term in total.terms}):
            found[kind] = found.get(kind, 0) + 1
    return dict(sorted(found.items()))
