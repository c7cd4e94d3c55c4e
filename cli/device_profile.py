"""`lanefit profile --target FILE.json`: the estimate of a network on a device that was calibrated."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.budget import Budget
from ..common.errors import ConfigError
from ..common.units import format_uj, format_us
from .device_memory import memory_table
from .model_argument import Model, ModelKind
from .output import Output
from .tables import judgement_line, pairs, table

if TYPE_CHECKING:
    from ..estimator.devices.estimator import DeviceEstimate, OperatorTime
    from ..estimator.opgraph.graph import OperatorGraph

Shape = tuple[int, ...]


def profile_on_device(
    output: Output, model: Model, path: Path, budget: Budget, input_shape: Shape | None, top: int
) -> int:
    """Prints predicted latency with its interval, the measurement where there is one, and the longest operators.

    The verdict is that of the interval's upper end.
    """
    from ..estimator.devices.files import load_device
    from ..estimator.opgraph.memory import device_memory

    estimator = load_device(path)
    graph = graph_of(model, input_shape)
    found, memory = estimator.estimate(graph), device_memory(graph)
    if found.extrapolated:
        output.warn("parts of this network lie outside of what was measured; its interval is no promise")
    is_energy = estimator.card.quantity == "energy"
    verdict = budget.check(energy_uj=found.upper_us) if is_energy else budget.check(latency_us=found.upper_us)
    document = {
        "model": model.name, "target": estimator.card.target, "verdict": verdict.as_dict(),
        "estimate": _energy(_document(found)) if is_energy else _document(found),
        "memory": {**asdict(memory), "peak_bytes": memory.peak_bytes},
    }  # fmt: skip
    output.result(
        document, judgement_line(verdict), *_tables(estimator.card.target, found, top, is_energy), memory_table(memory)
    )
    return 0 if verdict.passed else 1


def graph_of(model: Model, input_shape: Shape | None) -> OperatorGraph:
    """The operator graph of an architecture or an ONNX file."""
    if model.kind is ModelKind.ARCHITECTURE and model.architecture is not None:
        from ..nas.operator_bridge import architecture_graph

        task = model.task()
        return architecture_graph(model.architecture, input_channels=task.channels, classes=task.classes)
    if model.kind is ModelKind.ONNX and model.path is not None:
        from ..estimator.opgraph.onnx_reader import read_onnx

        return read_onnx(model.path, input_shape)
    raise ConfigError("a package was made for an engine, not for a device", where="MODEL", hint="give its ONNX file")


def _document(found: DeviceEstimate) -> dict[str, Any]:
    parts = [{**asdict(part), "operator": part.operator.as_dict()} for part in found.parts]
    return {**asdict(found), "parts": parts}


def _energy(document: dict[str, Any]) -> dict[str, Any]:
    """The same document of an estimator of energy, whose µs are µJ: every key says so."""
    named = {_energy_key(key): value for key, value in document.items()}
    if "parts" in document:
        named["parts"] = [_energy(part) for part in document["parts"]]
    return named


def _energy_key(key: str) -> str:
    return f"{key.replace('latency', 'energy').removesuffix('_us')}_uj" if key.endswith("_us") else key


def _tables(target: str, found: DeviceEstimate, top: int, is_energy: bool) -> list[Any]:
    text, unit = (format_uj, "uJ") if is_energy else (format_us, "us")
    totals: list[tuple[str, object]] = [
        ("predicted", f"{text(found.latency_us)} on {target}"),
        ("nine of ten lie in", f"{text(found.lower_us)} to {text(found.upper_us)}"),
    ]
    if found.measured_us is not None:
        error = found.latency_us / found.measured_us - 1
        totals.append(("measured", f"{text(found.measured_us)} (predicted {error:+.1%})"))
    if not found.parts:
        return [pairs(totals)]
    headers = ("operator", "output", "times", f"{unit} each", "share", "measured alone")
    return [pairs(totals), table(headers, _rows(found, top), numbers=headers[2:5], title="longest operators")]


def _rows(found: DeviceEstimate, top: int) -> list[tuple[object, ...]]:
    whole = sum(part.count * part.latency_us for part in found.parts)
    return [_row(part, whole) for part in found.parts[:top]]


def _row(part: OperatorTime, whole: float) -> tuple[object, ...]:
    name = "+".join((str(part.operator.kind), *(str(kind) for kind in part.operator.fused)))
    shape = "x".join(str(n) for n in part.operator.output)
    each, share = f"{part.latency_us:.1f}", f"{part.count * part.latency_us / whole:.1%}"
    doubt = "no" if not part.alone else "beyond the box" if part.extrapolated else "yes"
    return name, shape, part.count, each, share, doubt
