"""`DeviceCard`: what a device's estimator was fitted on, and how well it predicts what it had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.environment import versions
from ...common.errors import EstimatorError
from ..metrics import Accuracy, accuracy
from ..tables.cells import Quantity

_DISTRIBUTIONS = ("lanefit", "numpy", "scipy", "scikit-learn")
SPLIT = "each row predicted by models fitted without it (cross-validation)"


@dataclass(frozen=True, slots=True)
class DeviceCard:
    """sources: what was read, such as a file's name, with its number of measurements. data_hash: of all of them.
    kernels: accuracy on operators by class, and on "all"; networks: accuracy on whole networks, both by `split`.
    box: by class and size, the [lowest, highest] that was measured; beyond it a prediction is an extrapolation.
    device: what is known of the device and its state. quantity: "latency" (µs), or "energy" (µJ in place of every µs).
    """

    target: str
    sources: Mapping[str, int]
    data_hash: str
    seed: int
    split: str
    kernels: Mapping[str, Accuracy]
    networks: Accuracy | None
    box: Mapping[str, Any]
    device: Mapping[str, str | float]
    versions: Mapping[str, str]
    quantity: str = "latency"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def rows(self) -> list[tuple[str, Accuracy]]:
        """Class and accuracy for a report, "all operators" and networks last."""
        found = [(name, value) for name, value in sorted(self.kernels.items()) if name != "all"]
        if "all" in self.kernels:
            found.append(("all operators", self.kernels["all"]))
        return [*found, ("networks", self.networks)] if self.networks is not None else found


def accuracy_by_class(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, Accuracy]:
    """Of each class, and of all."""
    names = np.array(classes)
    found = {str(n): accuracy(predicted[names == n], measured[names == n]) for n in np.unique(names)}
    return {**found, "all": accuracy(predicted, measured)}


def package_versions() -> dict[str, str]:
    return versions(_DISTRIBUTIONS)


def card_from_dict(value: Mapping[str, Any]) -> DeviceCard:
    """The inverse of `DeviceCard.as_dict`; a malformed value raises `EstimatorError`."""
    try:
        kernels = {str(name): Accuracy(**figures) for name, figures in value["kernels"].items()}
        networks = None if value["networks"] is None else Accuracy(**value["networks"])
        found = DeviceCard(**{**value, "kernels": kernels, "networks": networks})
        if found.quantity not in tuple(Quantity):
            raise EstimatorError(f"malformed card: {found.quantity!r} is no quantity", hint="calibrate again")
        texts = (found.target, found.data_hash, found.split)
        if not all(isinstance(text, str) for text in texts) or not isinstance(found.sources, Mapping):
            raise EstimatorError("malformed card: names and sources", hint="calibrate again")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EstimatorError(f"malformed card: {error}", hint="calibrate again") from error
    return found
