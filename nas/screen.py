"""Costs of very many architectures, seen from afar: what a batch of trials asks before anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..common.errors import UnsupportedError
from ..estimator.network import NetworkEstimator
from ..estimator.screening import Screened, ScreeningEstimator
from ..models.layers import reaches_output
from .bridge import to_graph
from .curation import runnable
from .pieces import to_pieces

if TYPE_CHECKING:
    from ..estimator.pieces import Piece
    from ..models.architecture import Architecture
    from ..models.layers import LayerSpec
    from ..models.tasks import Task
    from .scoring import Estimator
    from .space import Space

FIT_NETWORKS = 100  # planned by the exact estimator: half a second of work
_STREAM = 3  # of random architectures, beside those that estimators are fitted and judged on


class Screen(Protocol):
    """`exact` says that screened costs are the estimator's own."""

    exact: bool

    def of(self, architecture: Architecture) -> Screened:
        """The cost from afar, always with a latency.

        Raises:
            UnsupportedError: the target cannot run the architecture.
        """
        ...


class ExactScreen:
    """Every architecture by the estimator itself: for targets that have no compiler of ours."""

    exact = True

    def __init__(self, estimator: Estimator, space: Space, task: Task) -> None:
        self._estimator, self._family, self._task = estimator, space.family, task

    def of(self, architecture: Architecture) -> Screened:
        layers = self._layers(architecture)
        if not reaches_output(layers):
            raise UnsupportedError(
                "the network's output sees nothing of its input", hint="too many operations are none"
            )
        found = self._estimator.estimate(to_graph(layers))
        return Screened(found.latency_us, found.latency_upper_us, found.sram_bytes, found.weight_bytes, found.macs)

    def _layers(self, architecture: Architecture) -> tuple[LayerSpec, ...]:
        task = self._task
        return self._family.layers(architecture, input_channels=task.channels, classes=task.classes)


class BlockScreen:
    """By shared blocks, with a factor learned from random architectures of the space. Those whose maps leave SRAM are
    estimated exactly.

    Raises:
        EstimatorError: hardly any architecture of the space keeps its maps in SRAM.
    """

    exact = False

    def __init__(self, estimator: NetworkEstimator, space: Space, task: Task) -> None:
        self._family, self._task = space.family, task
        self._whole = ExactScreen(estimator, space, task)
        seeds = np.random.SeedSequence((0, _STREAM)).generate_state(FIT_NETWORKS)
        drawn = list(dict.fromkeys(runnable(space).sample(int(seed)) for seed in seeds))
        graphs = [to_graph(space.family.layers(a, input_channels=task.channels, classes=task.classes)) for a in drawn]
        self._screening = ScreeningEstimator.fit(estimator, [self._pieces(a) for a in drawn], graphs)

    def of(self, architecture: Architecture) -> Screened:
        found = self._screening.estimate(self._pieces(architecture))
        return found if found.resident else self._whole.of(architecture)

    def _pieces(self, architecture: Architecture) -> tuple[Piece, ...]:
        task = self._task
        return to_pieces(self._family.blocks(architecture, input_channels=task.channels, classes=task.classes))


def screen_for(estimator: Estimator, space: Space, task: Task) -> Screen:
    """By blocks where the estimator is an engine's, else by the estimator itself."""
    if isinstance(estimator, NetworkEstimator):
        return BlockScreen(estimator, space, task)
    return ExactScreen(estimator, space, task)
