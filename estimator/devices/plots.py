"""How good an estimator of a device is, as PNG files with their data beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...common.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, new_figure, save_png
from ...common.files import write_json
from ..metrics import accuracy, relative_errors
from .fitting import DeviceFit, Measurements
from .operator_model import OperatorRegressor, operator_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array: TypeAlias = NDArray[np.float64]
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)
_SHARES = (0.125, 0.25, 0.5, 1.0)
_HELD_OUT = 0.25
_LEAST = 20  # operators that the smallest part of a learning curve needs


def write_plots(fit: DeviceFit, measurements: Measurements, folder: Path, *, seed: int = 0) -> list[Path]:
    """Writes `predicted`, `errors` and, with enough operators, `learning`, each as .png and .json."""
    points = _points(fit, measurements)
    documents: dict[str, Any] = {
        "predicted": {name: {"predicted_us": p.tolist(), "measured_us": m.tolist()} for name, (p, m) in points.items()},
        "errors": {name: np.sort(relative_errors(p, m)).tolist() for name, (p, m) in points.items()},
    }
    title = fit.estimator.card.target
    paths = [
        draw_predicted(points, folder / "predicted.png", title=title),
        draw_errors(points, folder / "errors.png", title=title),
    ]
    curve = learning_curve(measurements, fit, seed=seed)
    if curve:
        documents["learning"] = [{"operators": count, "acc10": share} for count, share in curve]
        paths.append(draw_learning(curve, folder / "learning.png", title=title))
    for name, document in documents.items():
        write_json(folder / f"{name}.json", document)
    return sorted([*paths, *(folder / f"{name}.json" for name in documents)])


def learning_curve(measurements: Measurements, fit: DeviceFit, *, seed: int = 0) -> list[tuple[int, float]]:
    """(operators fitted on, share of the held-out ones within 10 %); empty for few operators."""
    kernels = measurements.kernels
    order = np.random.default_rng(seed).permutation(len(kernels))
    held, pool = np.split(order, [int(_HELD_OUT * len(order))])
    if len(pool) * _SHARES[0] < _LEAST or fit.estimator.operators is None:
        return []
    operators, latency_us = [kernel.operator for kernel in kernels], np.array([k.latency_us for k in kernels])
    fitted = fit.estimator.operators
    found: list[tuple[int, float]] = []
    for share in _SHARES:
        part = pool[: int(share * len(pool))]
        model = OperatorRegressor(
            machine=fitted.machine_, process_rows=fitted.process_rows, trees=fitted.trees, random_state=seed
        ).fit([operators[i] for i in part], latency_us[part])
        known = np.array([i for i in held if operator_class(operators[i]) in model.class_names_])
        predicted = model.predict([operators[i] for i in known])
        hits = accuracy(predicted, latency_us[known]).acc10 * len(known)
        found.append((len(part), float(hits / len(held))))
    return found


def draw_predicted(points: Mapping[str, tuple[Array, Array]], path: Path, *, title: str) -> Path:
    """Predicted over measured, a colour per class, with the band of ±10 %."""
    figure = new_figure(6.5, 6)
    axes: Axes = figure.subplots()
    everything = np.concatenate([measured for _, measured in points.values()])
    ends = np.array([everything.min() * 0.8, everything.max() * 1.25])
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color=GREY, alpha=0.3, linewidth=0, label="±10 %")
    for colour, (name, (predicted, measured)) in zip(_cycle(len(points)), points.items(), strict=True):
        axes.scatter(measured, predicted, s=5, color=colour, label=name, rasterized=True)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured us", ylabel="predicted us")
    axes.set_title(f"{title}: predicted without having seen it")
    axes.legend(fontsize=8)
    return save_png(figure, path)


def draw_errors(points: Mapping[str, tuple[Array, Array]], path: Path, *, title: str) -> Path:
    """Share of the predictions below each size of error, a line per class."""
    figure = new_figure(7, 4.5)
    axes: Axes = figure.subplots()
    for colour, (name, (predicted, measured)) in zip(_cycle(len(points)), points.items(), strict=True):
        size = np.sort(np.abs(relative_errors(predicted, measured))) * 100
        axes.step(size, np.arange(1, len(size) + 1) / len(size), where="post", color=colour, label=name)
    axes.axvline(10, color=GREY, linestyle="--", linewidth=1)
    axes.set(xlim=(0, 40), ylim=(0, 1), xlabel="error %", ylabel="share of predictions", title=f"{title}: errors")
    axes.legend(fontsize=8, loc="lower right")
    return save_png(figure, path)


def draw_learning(
    curve: Sequence[tuple[int, float]], path: Path, *, title: str, measured: str = "measured operators"
) -> Path:
    """Share within 10 % over the number of operators, or of whatever was measured."""
    figure = new_figure(6, 4)
    axes: Axes = figure.subplots()
    axes.plot([count for count, _ in curve], [share for _, share in curve], marker="o", color=BLUE)
    axes.set(xscale="log", ylim=(0, 1), xlabel=measured, ylabel="within 10 %", title=f"{title}: learning")
    axes.set_xticks([count for count, _ in curve], labels=[str(count) for count, _ in curve])
    axes.minorticks_off()
    return save_png(figure, path)


def _points(fit: DeviceFit, measurements: Measurements) -> dict[str, tuple[Array, Array]]:
    """By class and for networks: predictions without having seen the measurement, and the measurement."""
    found: dict[str, tuple[Array, Array]] = {}
    classes = np.array([operator_class(kernel.operator) for kernel in measurements.kernels])
    latency_us = np.array([kernel.latency_us for kernel in measurements.kernels])
    for name in np.unique(classes):
        rows = classes == name
        found[str(name)] = (fit.kernels_unseen_us[rows], latency_us[rows])
    if measurements.networks:
        found["networks"] = (fit.networks_unseen_us, np.array([n.latency_us for n in measurements.networks]))
    return found


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
