"""`NetworkEstimator`: latency, memory and traffic of whole networks, without compiling or running them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.units import cycles_to_us
from ..export.graph import Graph
from ..export.planned import PlannedStep
from ..kernels.kernel import Tiling
from ..kernels.subgraph import Subgraph
from ..targets.spec import EngineSpec
from .boundary import step_cycles
from .decompose import Decomposition, decompose
from .features import feature_matrix
from .model import PhaseModel, Prediction

if TYPE_CHECKING:
    from .card import ModelCard


@dataclass(frozen=True, slots=True)
class Part:
    """One subgraph's share. The latencies of all parts add up to those of the network."""

    label: str
    kind: str
    latency_us: float
    latency_upper_us: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """One network on one engine.

    `latency_upper_us` is exceeded by about one latency in twenty, for networks like those of the fit.
    `extrapolated` says that a part lies outside of what was measured: the bound is then the sum of the parts'
    bounds and no promise. Bytes and MACs are exact: those of the compiled program.
    """

    latency_us: float
    latency_upper_us: float
    sram_bytes: int
    weight_bytes: int
    dram_bytes: int
    macs: int
    extrapolated: bool
    parts: tuple[Part, ...]


class NetworkEstimator:
    """Estimates networks of `spec` from a fitted model. Predictions of workloads are kept for the next network."""

    def __init__(self, spec: EngineSpec, regressor: PhaseModel, card: ModelCard) -> None:
        self.spec, self.regressor, self.card = spec, regressor, card
        self._known: dict[tuple[Subgraph, Tiling], Prediction] = {}

    def estimate(self, graph: Graph) -> Estimate:
        """The estimate of one graph; shapes suffice.

        Raises:
            UnsupportedError: naming the node without a tiling, or the kind of subgraph that was never measured.
        """
        return self.estimate_many([graph])[0]

    def estimate_many(self, graphs: Sequence[Graph]) -> list[Estimate]:
        """The same estimates in the same order; all unknown workloads are predicted in one batch."""
        decompositions = [decompose(graph, self.spec) for graph in graphs]
        self._predict([step for found in decompositions for step in found.steps])
        return [self._estimate(found) for found in decompositions]

    def save(self, path: Path) -> None:
        """Writes the estimator as JSON; see `files.load_estimator`."""
        from .files import save_estimator

        save_estimator(self, path)

    @classmethod
    def load(cls, path: Path, spec: EngineSpec | None = None) -> NetworkEstimator:
        """Reads an estimator; see `files.load_estimator` for what is refused."""
        from .files import load_estimator

        return load_estimator(path, spec)

    def _predict(self, steps: Sequence[PlannedStep]) -> None:
        unknown = {key: step for step in steps if (key := _key(step)) not in self._known}
        matrix = feature_matrix([(step.subgraph, step.choice) for step in unknown.values()], self.spec)
        self._known.update(zip(unknown, self.regressor.predict(matrix), strict=True))

    def _estimate(self, found: Decomposition) -> Estimate:
        predictions = [self._known[_key(step)] for step in found.steps]
        cycles = step_cycles(found.steps, predictions)
        parts = tuple(map(self._part, found.steps, predictions, cycles))
        latency_us = cycles_to_us(sum(cycles), self.spec.clock_mhz)
        extrapolated = any(prediction.extrapolated for prediction in predictions)
        upper_us = latency_us * self.card.network_upper
        return Estimate(
            latency_us,
            max(upper_us, sum(part.latency_upper_us for part in parts)) if extrapolated else upper_us,
            found.sram_bytes,
            found.weight_bytes,
            found.dram_bytes,
            found.macs,
            extrapolated,
            parts,
        )

    def _part(self, step: PlannedStep, prediction: Prediction, cycles: float) -> Part:
        latency_us = cycles_to_us(cycles, self.spec.clock_mhz)
        kind, upper_us = step.subgraph.kind, latency_us * prediction.upper
        return Part(step.group.label, str(kind), latency_us, upper_us, prediction.extrapolated)


def _key(step: PlannedStep) -> tuple[Subgraph, Tiling]:
    return step.subgraph, step.choice.tiling
