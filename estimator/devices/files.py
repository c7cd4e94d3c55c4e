"""Estimators of devices as JSON files: documented, stable, and reading one never runs code.

    {"format": "lanefit-device-estimator", "schema_version": 1,
     "card": {...},            what it was fitted on and how well it does (`DeviceCard`)
     "operators": {...},       laws by class, residual, intervals (`OperatorRegressor.fitted_state`), or null
     "networks": {...},        whole networks (`network_document`), or null
     "scale": {...},           from sums of operators to networks (`NetworkScale`), or null
     "intervals": {...},       of these sums (`Intervals`), or null
     "fusion": {...},          operators that run in one pass (`FusionRules`)
     "measured_us": {...}}     latencies of measured networks by digest of their graph

Numbers are written with all their digits: a file that was read and written again has the same bytes.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any, Literal

from ...common.errors import EstimatorError, LanefitError
from ...common.files import canonical_json, write_atomic
from ..documents import Document, read_document
from ..opgraph.fusion import FusionRules
from .card import card_from_dict
from .conformal import intervals_from_dict
from .estimator import DeviceEstimator
from .network_document import network_model_from_dict, network_model_to_dict
from .operator_model import OperatorRegressor
from .scale import scale_from_dict

FORMAT = "lanefit-device-estimator"
SCHEMA_VERSION = 1
_AGAIN = "calibrate the device again"


class _File(Document):
    format: Literal["lanefit-device-estimator"]
    card: dict[str, Any]
    operators: dict[str, Any] | None
    networks: dict[str, Any] | None
    scale: dict[str, Any] | None
    intervals: dict[str, Any] | None
    fusion: dict[str, Any]
    measured_us: dict[str, float]


def save_device(estimator: DeviceEstimator, path: Path) -> None:
    """Writes `estimator` atomically; equal estimators give equal bytes."""
    operators, networks = estimator.operators, estimator.networks
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "card": estimator.card.as_dict(),
        "operators": None if operators is None else operators.fitted_state(),
        "networks": None if networks is None else network_model_to_dict(networks),
        "scale": None if estimator.scale is None else estimator.scale.as_dict(),
        "intervals": None if estimator.intervals is None else estimator.intervals.as_dict(),
        "fusion": estimator.fusion.as_dict(),
        "measured_us": dict(estimator.measured_us),
    }
    write_atomic(path, canonical_json(document).encode())


def load_device(path: Path) -> DeviceEstimator:
    """Reads an estimator.

    Raises:
        EstimatorError: the file is damaged, something else, or of another schema version.
    """
    document = read_document(
        path, _File, format=FORMAT, version=SCHEMA_VERSION, noun="an estimator of a device", again=_AGAIN
    )
    try:
        return _estimator(document)
    except (LanefitError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        text = error.what if isinstance(error, LanefitError) else f"{type(error).__name__}: {error}"
        raise EstimatorError(f"{path.name} is damaged: {text}", where=str(path), hint=_AGAIN) from error


def _estimator(document: _File) -> DeviceEstimator:
    operators, networks = document.operators, document.networks
    if not all(isfinite(value) and value > 0 for value in document.measured_us.values()):
        raise EstimatorError("a measured latency is not positive")
    return DeviceEstimator(
        card=card_from_dict(document.card),
        operators=None if operators is None else OperatorRegressor().restore(operators),
        networks=None if networks is None else network_model_from_dict(networks),
        scale=None if document.scale is None else scale_from_dict(document.scale),
        intervals=None if document.intervals is None else intervals_from_dict(document.intervals),
        fusion=FusionRules.from_dict(document.fusion),
        measured_us=document.measured_us,
    )
