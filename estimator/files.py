"""Estimators as JSON files: read by anyone, and reading one never runs code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..common.errors import EstimatorError, LanefitError
from ..common.files import canonical_json, write_atomic
from ..targets.spec import EngineSpec, spec_from_dict
from .card import ModelCard
from .documents import Document, read_document
from .features import COLUMNS, KINDS
from .measurement import toolchain_hash
from .metrics import Accuracy
from .model import PhaseModel, phase_regressor
from .physics import PHASES
from .validity import UpperBounds, box_from_dict

if TYPE_CHECKING:
    from .network import NetworkEstimator

FORMAT = "lanefit-estimator"
SCHEMA_VERSION = 2
_AGAIN = "fit the estimator again"


class _File(Document):
    format: Literal["lanefit-estimator"]
    columns: list[str]
    kinds: list[str]
    spec: dict[str, Any]
    card: dict[str, Any]
    regressors: dict[str, dict[str, Any]]
    upper: dict[str, Any]


def save_estimator(estimator: NetworkEstimator, path: Path) -> None:
    """Writes `estimator` atomically; equal estimators give equal bytes."""
    model = estimator.regressor
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "columns": list(COLUMNS),
        "kinds": [str(kind) for kind in KINDS],
        "spec": estimator.spec.as_dict(),
        "card": estimator.card.as_dict(),
        "regressors": {phase: model.regressors[phase].fitted_state() for phase in PHASES},
        "upper": model.upper.as_dict(),
    }
    write_atomic(path, canonical_json(document).encode())


def load_estimator(path: Path, spec: EngineSpec | None = None) -> NetworkEstimator:
    """Reads an estimator, for `spec` when one is given.

    Raises:
        EstimatorError: the file is damaged, of another schema version or feature set, fitted for another target,
            or fitted with another version of the compiler and cycle model.
    """
    from .network import NetworkEstimator

    document = _read(path)
    try:
        found = spec_from_dict(document.spec)
        card = _card(document.card)
        model = _model(document, card)
    except (LanefitError, KeyError, TypeError, ValueError) as error:
        raise EstimatorError(f"{path.name} is damaged: {_line(error)}", where=str(path), hint=_AGAIN) from error
    _check_target(path, found, card, spec)
    return NetworkEstimator(found, model, card)


def _read(path: Path) -> _File:
    document = read_document(path, _File, format=FORMAT, version=SCHEMA_VERSION, noun="an estimator", again=_AGAIN)
    if tuple(document.columns) != COLUMNS or document.kinds != [str(kind) for kind in KINDS]:
        raise EstimatorError(f"{path.name} was fitted on other features", where=str(path), hint=_AGAIN)
    return document


def _check_target(path: Path, found: EngineSpec, card: ModelCard, wanted: EngineSpec | None) -> None:
    if found.digest() != card.target_digest:
        raise EstimatorError(
            f"{path.name} is damaged: its target does not match its card", where=str(path), hint=_AGAIN
        )
    if wanted is not None and wanted.digest() != card.target_digest:
        raise EstimatorError(
            f"{path.name} was fitted for {found.name} {card.target_digest}, not for {wanted.name} {wanted.digest()}",
            where=str(path),
            hint=f"fit an estimator for {wanted.name}",
        )
    if card.toolchain != toolchain_hash():
        raise EstimatorError(
            f"{path.name} was fitted with toolchain {card.toolchain}, this one is {toolchain_hash()}",
            where=str(path),
            hint=_AGAIN,
        )


def _card(value: dict[str, Any]) -> ModelCard:
    errors = {kind: Accuracy(**figures) for kind, figures in value["errors"].items()}
    return ModelCard(**{**value, "errors": errors, "network": Accuracy(**value["network"])})


def _model(document: _File, card: ModelCard) -> PhaseModel:
    regressors = {
        phase: phase_regressor(phase, trees=card.trees, random_state=card.seed).restore(document.regressors[phase])
        for phase in PHASES
    }
    wrong = [phase for phase, regressor in regressors.items() if regressor.n_features_in_ != len(COLUMNS)]
    if wrong:
        raise EstimatorError(f"the regressor of {', '.join(wrong)} has another number of features")
    upper = UpperBounds(
        {int(k): float(v) for k, v in document.upper["by_kind"].items()}, float(document.upper["pooled"])
    )
    return PhaseModel(regressors, upper, box_from_dict(dict(card.box)))


def _line(error: Exception) -> str:
    return error.what if isinstance(error, LanefitError) else f"{type(error).__name__}: {error}"
