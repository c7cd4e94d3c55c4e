"""`lanefit profile --target FILE.json` for a host or board that was calibrated live."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.budget import Budget
from ..common.errors import ConfigError, EstimatorError
from ..common.units import format_us
from .live_calibration import runner_of
from .model_argument import Model, ModelKind
from .output import Output
from .tables import judgement_line, pairs

if TYPE_CHECKING:
    from ..estimator.live.sessions import LiveRunner

_TOOLCHAIN = re.compile(r"(onnxruntime|apache-tvm)\b.*?(\d+) threads?\b")


def profile_live(output: Output, model: Model, path: Path, budget: Budget) -> int:
    """Prints predicted latency with its interval, and the measurement where the store beside `path` has one."""
    from ..estimator.live.files import load_device
    from ..estimator.live.judgement import estimate_live
    from ..export.onnx_model import load_model

    calibrated = load_device(path)
    if model.kind is not ModelKind.ONNX or model.path is None:
        raise ConfigError("what a runtime executes is read from an ONNX file", where="MODEL", hint="export it first")
    graph = _runner(calibrated.toolchain, path).executed(load_model(model.path))
    found = estimate_live(calibrated, [graph])[0]
    verdict = budget.check(latency_us=found.upper_us)
    measured = measured_us(model.path, path.with_suffix(".sqlite"), calibrated.device, calibrated.toolchain)
    rows = [
        ("predicted", f"{format_us(found.latency_us)} on {calibrated.device}"),
        ("nine of ten lie in", f"{format_us(found.lower_us)} to {format_us(found.upper_us)}"),
    ]
    if measured is not None:
        rows.append(("measured", f"{format_us(measured)} (predicted {found.latency_us / measured - 1:+.1%})"))
    document = {
        "model": model.name, "target": calibrated.device, "verdict": verdict.as_dict(),
        "estimate": {**asdict(found), "measured_us": measured},
    }  # fmt: skip
    output.result(document, judgement_line(verdict), pairs(rows))
    return 0 if verdict.passed else 1


def measured_us(model: Path, store: Path, device: str, toolchain: str) -> float | None:
    """The latency of a network that was measured as a whole; None where there is no such measurement."""
    from ..estimator.live.store import LiveStore

    if not store.exists():
        return None
    with LiveStore(store) as found:
        networks = found.all(device=device, toolchain=toolchain, subject="network")
    return next((n.measured.latency_us for n in networks if Path(n.name).resolve() == model.resolve()), None)


def _runner(toolchain: str, path: Path) -> LiveRunner:
    """The runtime that was calibrated; `EstimatorError` when another version is installed."""
    match = _TOOLCHAIN.match(toolchain)
    if match is None:
        raise EstimatorError(f"toolchain {toolchain!r} is no runtime of this host", where=str(path))
    runner = runner_of(match[1].removeprefix("apache-"), int(match[2]))
    if runner.toolchain != toolchain:
        raise EstimatorError(
            f"{path.name} was calibrated with {toolchain}, here is {runner.toolchain}",
            where=str(path),
            hint="calibrate again, or install that version",
        )
    return runner
