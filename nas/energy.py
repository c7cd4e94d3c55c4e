"""Energy of candidates, from an estimator that was calibrated on measured energies. Engines have no model of their own.

`lanefit calibrate TARGET --from kernels.csv --quantity energy` makes one: every figure of it is uJ in place of us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import ConfigError
from .operator_bridge import to_operator_graph
from .scoring import Estimate, Part, Parted

if TYPE_CHECKING:
    from ..estimator.devices.estimator import DeviceEstimator
    from ..models.layers import LayerSpec
    from .config import SearchConfig

_MAKE = "`lanefit calibrate --quantity energy` makes such a file"


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """Estimates energies of networks on one target."""

    estimator: DeviceEstimator

    @property
    def data_hash(self) -> str:
        """Of the measurements: a search that was begun with others is not continued."""
        return self.estimator.card.data_hash

    def of(self, layers: Sequence[LayerSpec], estimate: Estimate) -> Estimate:
        """`estimate` with the upper end of the energy; `UnsupportedError` for an operator that was never measured."""
        return WithEnergy(estimate, float(self.estimator.estimate(to_operator_graph(layers)).upper_us))


@dataclass(frozen=True, slots=True)
class WithEnergy:
    """An estimate and the upper end of the energy of one inference, in uJ."""

    estimate: Estimate
    energy_uj: float

    @property
    def latency_us(self) -> float:
        return self.estimate.latency_us

    @property
    def latency_upper_us(self) -> float:
        return self.estimate.latency_upper_us

    @property
    def sram_bytes(self) -> int:
        return self.estimate.sram_bytes

    @property
    def weight_bytes(self) -> int:
        return self.estimate.weight_bytes

    @property
    def dram_bytes(self) -> int | None:
        return self.estimate.dram_bytes

    @property
    def macs(self) -> int:
        return self.estimate.macs

    @property
    def extrapolated(self) -> bool:
        return self.estimate.extrapolated

    @property
    def parts(self) -> Sequence[Part]:
        return self.estimate.parts if isinstance(self.estimate, Parted) else ()


def energy_model(config: SearchConfig) -> EnergyModel | None:
    """The estimator in `config.energy`, None without one.

    Raises:
        ConfigError: an energy budget without an estimator, or a file that estimates something else.
        EstimatorError: a file that is damaged.
    """
    if not config.energy:
        if config.budget().energy_uj is not None:
            problem = f"nothing estimates energies of {config.target}, so an energy budget cannot be checked"
            raise ConfigError(problem, where="budgets:energy", hint=f"give one with --energy FILE; {_MAKE}")
        return None
    from ..estimator.devices.files import load_device

    found = load_device(Path(config.energy))
    if found.card.quantity != "energy":
        raise ConfigError(f"this estimates {found.card.quantity}, not energy", where=config.energy, hint=_MAKE)
    return EnergyModel(found)
