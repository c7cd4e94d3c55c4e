"""How good a live calibration is, as PNG files with their data beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...common.files import write_json
from ..devices.plots import draw_errors, draw_learning, draw_predicted
from ..metrics import accuracy, relative_errors
from .additive import AdditiveModel, fit_additive
from .files import CalibratedDevice
from .operator_costs import Sum
from .store import LiveMeasurement
from .work import work_of

Array: TypeAlias = NDArray[np.float64]
_SHOWN = 4  # kinds that get a colour of their own; networks and all others have one each
_SHARES = (0.125, 0.25, 0.5, 1.0)
_LEAST = 10  # pieces that a model can be fitted to


def write_plots(
    calibrated: CalibratedDevice, networks: Sequence[LiveMeasurement], folder: Path, *, title: str
) -> list[Path]:
    """Writes `predicted`, `errors` and, with measured networks, `learning`, each as .png and .json.

    A piece is predicted by the model without it, a network by all pieces.
    """
    points = live_points(calibrated.model, networks)
    documents: dict[str, Any] = {
        "predicted": {name: {"predicted_us": p.tolist(), "measured_us": m.tolist()} for name, (p, m) in points.items()},
        "errors": {name: np.sort(relative_errors(p, m)).tolist() for name, (p, m) in points.items()},
    }
    paths = [
        draw_predicted(points, folder / "predicted.png", title=title),
        draw_errors(points, folder / "errors.png", title=title),
    ]
    if curve := learning_curve(calibrated.model, networks):
        documents["learning"] = [{"pieces": count, "acc10": share} for count, share in curve]
        paths.append(draw_learning(curve, folder / "learning.png", title=title, measured="measured pieces"))
    for name, document in documents.items():
        write_json(folder / f"{name}.json", document)
    return sorted([*paths, *(folder / f"{name}.json" for name in documents)])


def live_points(model: AdditiveModel, networks: Sequence[LiveMeasurement]) -> dict[str, tuple[Array, Array]]:
    """Predictions without having seen the measurement, and the measurement: of pieces by the kind of operator that
    takes most of them, and of networks."""
    names = _names(model)
    predicted, measured = model.left_out_us(), np.asarray(model.latency_us, np.float64)
    found: dict[str, tuple[Array, Array]] = {}
    for name in sorted(set(names)):
        rows = np.array(names) == name
        found[name] = (predicted[rows], measured[rows])
    if networks:
        whole, _ = model.predict([network.definition for network in networks])
        found["networks"] = (whole, np.array([network.measured.latency_us for network in networks]))
    return found


def learning_curve(model: AdditiveModel, networks: Sequence[LiveMeasurement]) -> list[tuple[int, float]]:
    """(pieces fitted on, in the order of their measurement; share of networks within 10 %)."""
    if not networks:
        return []
    measured = [network.measured.latency_us for network in networks]
    found: list[tuple[int, float]] = []
    for count in (int(share * len(model.sums)) for share in _SHARES):
        if count >= _LEAST:
            part = fit_additive(model.sums[:count], model.latency_us[:count], model.doubts[:count])
            predicted, _ = part.predict([network.definition for network in networks])
            found.append((count, accuracy(predicted, measured).acc10))
    return found if len(found) > 1 else []


def _names(model: AdditiveModel) -> list[str]:
    """Of each piece, the kind that takes most of it; rare ones are one group."""
    kinds = [_longest(total, model) for total in model.sums]
    common = {kind for kind, _ in Counter(kinds).most_common(_SHOWN)}
    return [f"pieces: {kind}" if kind in common else "pieces: others" for kind in kinds]


def _longest(total: Sum, model: AdditiveModel) -> str:
    works = [work_of(term.operator) for term in total.terms]
    costs = model.costs.operators_us(works)
    by_kind: Counter[str] = Counter()
    for work, cost in zip(works, costs.tolist(), strict=True):
        by_kind[work.kind] += cost
    return by_kind.most_common(1)[0][0]
