"""What a search needs from the outside: the cost of an architecture, its untrained scores and its trained accuracy.

`Workbench` is the seam. `workbench.ModelWorkbench` implements it with real families, tasks and an estimator;
tests and users with their own trainer put something else there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..common.budget import Budget, Verdict
from ..export.graph import Graph
from ..models.architecture import Architecture
from .oneshot.pool import FeasiblePool
from .space import Space

if TYPE_CHECKING:
    from ..estimator.screening import Screened

OnEpoch = Callable[[int, float], bool]
"""Called with (finished epochs, validation accuracy); False stops the training."""


class Estimate(Protocol):
    """Predicted cost of one network; `latency_upper_us` is the upper end of its confidence interval."""

    @property
    def latency_us(self) -> float: ...
    @property
    def latency_upper_us(self) -> float: ...
    @property
    def sram_bytes(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def dram_bytes(self) -> int | None: ...
    @property
    def macs(self) -> int: ...
    @property
    def extrapolated(self) -> bool: ...


class Part(Protocol):
    """One subgraph's share of a latency."""

    @property
    def label(self) -> str: ...
    @property
    def latency_us(self) -> float: ...


@runtime_checkable
class Parted(Protocol):
    """An estimate that knows the shares of its latency, which add up to it."""

    @property
    def parts(self) -> Sequence[Part]: ...


@runtime_checkable
class Powered(Protocol):
    """An estimate that may know the energy of one inference in uJ, the upper end of its interval."""

    @property
    def energy_uj(self) -> float | None: ...


class Estimator(Protocol):
    """Costs a shape-only operator graph; `UnsupportedError` for what the target cannot run."""

    def estimate(self, graph: Graph) -> Estimate: ...


@dataclass(frozen=True, slots=True)
class Cost:
    """An `Estimate` as stored with a trial, or a measurement, whose upper end is the value itself."""

    latency_us: float
    latency_upper_us: float
    sram_bytes: int
    weight_bytes: int
    dram_bytes: int | None  # None where a candidate was only screened, which does not tell it
    macs: int
    extrapolated: bool = False
    energy_uj: float | None = None  # upper end; None where nothing estimates the target's energy

    @classmethod
    def of(cls, estimate: Estimate) -> Cost:
        return cls(
            float(estimate.latency_us),
            float(estimate.latency_upper_us),
            int(estimate.sram_bytes),
            int(estimate.weight_bytes),
            None if estimate.dram_bytes is None else int(estimate.dram_bytes),
            int(estimate.macs),
            bool(estimate.extrapolated),
            estimate.energy_uj if isinstance(estimate, Powered) else None,
        )

    @classmethod
    def screened(cls, seen: Screened) -> Cost | None:
        """The cost of a network seen from afar, None where its latency is unknown."""
        if seen.latency_us is None or seen.latency_upper_us is None:
            return None
        return cls(seen.latency_us, seen.latency_upper_us, seen.sram_bytes, seen.weight_bytes, None, seen.macs)

    def check(self, budget: Budget, accuracy: float | None = None) -> Verdict:
        """The verdict with the upper ends of latency and energy, so that optimism cannot win a search."""
        return budget.check(
            latency_us=self.latency_upper_us,
            sram_bytes=self.sram_bytes,
            weight_bytes=self.weight_bytes,
            energy_uj=self.energy_uj,
            accuracy=accuracy,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Training:
    """Outcome of one training: `accuracy` and `curve` (one value for each epoch) are shares on validation data.

    `accuracy_test` is for the final report and never chooses anything. `weights` is the module's state, name to
    array; `stopped` says that `on_epoch` ended it.
    """

    accuracy: float
    curve: tuple[float, ...]
    accuracy_test: float | None = None
    stopped: bool = False
    weights: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


class Workbench(Protocol):
    """Everything that depends on family, task and target. Each method is deterministic in its arguments."""

    @property
    def space(self) -> Space: ...

    def estimate(self, architecture: Architecture) -> Estimate:
        """Predicted cost; raises `UnsupportedError` for an architecture that the target cannot run."""
        ...

    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        """Zero-shot scores by proxy, higher is better, minus infinity for a degenerate network."""
        ...

    def train(
        self,
        architecture: Architecture,
        seed: int,
        on_epoch: OnEpoch,
        *,
        start: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> Training:
        """Trains from the seed's initialisation, or from weights of another architecture as far as they fit.

        `start` is given only to searches that ask for inheritance.
        """
        ...

    def measure(self, architecture: Architecture) -> Estimate | None:
        """Cost measured rather than predicted (compiled and timed), or None where nothing can measure."""
        ...


@runtime_checkable
class ScreensMany(Protocol):
    """A workbench that costs many architectures from afar, faster than one by one."""

    def screen_many(self, architectures: Sequence[Architecture]) -> Sequence[Screened | None]:
        """The cost of each, None for what the target cannot run."""
        ...


class Subnets(Protocol):
    """A trained supernet: what its shared weights say of an architecture."""

    def accuracy(self, architecture: Architecture) -> float:
        """Validation accuracy (0..1) without any training of the subnet."""
        ...

    def weights(self, architecture: Architecture) -> Mapping[str, NDArray[np.generic]]:
        """What a training of the architecture may begin with."""
        ...


@runtime_checkable
class WithSupernet(Protocol):
    """A workbench whose family can share weights between architectures."""

    @property
    def space(self) -> Space: ...

    def supernet_epochs(self, pool: FeasiblePool, seed: int, seconds: float) -> int:
        """How many epochs of a supernet `seconds` of processor time pay for, from timing a few steps."""
        ...

    def supernet(
        self, pool: FeasiblePool, seed: int, *, epochs: int, seconds: float | None, state: Path,
        on_epoch: Callable[[int], None],
    ) -> Subnets:  # fmt: skip
        """Trains a supernet on the architectures of `pool` and no others, or goes on with the training in `state`.

        It takes `epochs`, or `seconds` of processor time if those are over first, everything counted. `on_epoch` hears
        the number of epochs, the last of which may be cut short.
        """
        ...
