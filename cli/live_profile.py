"""`lanefit profile --target FILE.json` for a host or board that was calibrated live."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.budget import Budget
from ..common.errors import ConfigError, EstimatorError
from .device_memory import memory_table
from .live_calibration import runner_of
from .live_report import estimate_document, estimate_tables, warn_beyond
from .model_argument import Model, ModelKind
from .output import Output
from .tables import judgement_line

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..estimator.live.executed import ExecutedGraph
    from ..estimator.live.files import CalibratedDevice
    from ..estimator.live.sessions import LiveRunner

_REMOTE = ", RPC"
_TOOLCHAIN = re.compile(r"(onnxruntime|apache-tvm)\b.*?(\d+) threads?\b")


def profile_live(output: Output, model: Model, path: Path, budget: Budget, top: int) -> int:
    """Prints predicted latency with its interval, the measurement where the store beside `path` has one, where the
    time goes, and memory. The verdict is that of the interval's upper end."""
    from ..estimator.live.arena import live_memory
    from ..estimator.live.files import load_device
    from ..estimator.live.judgement import estimate_live
    from ..export.onnx_model import load_model

    calibrated = load_device(path)
    if model.kind is not ModelKind.ONNX or model.path is None:
        raise ConfigError("what a runtime executes is read from an ONNX file", where="MODEL", hint="export it first")
    graph = _executed(calibrated, path, load_model(model.path))
    found, memory = estimate_live(calibrated, [graph])[0], live_memory(graph)
    verdict = budget.check(latency_us=found.upper_us)
    measured = measured_us(graph, calibrated, path.with_suffix(".sqlite"))
    warn_beyond(output, found)
    document = {
        "model": model.name, "target": calibrated.device, "verdict": verdict.as_dict(),
        "estimate": estimate_document(found, measured),
        "memory": {**asdict(memory), "peak_bytes": memory.peak_bytes},
    }  # fmt: skip
    tables = estimate_tables(found, measured, calibrated.device, top)
    output.result(document, judgement_line(verdict), *tables, memory_table(memory))
    return 0 if verdict.passed else 1


def measured_us(graph: ExecutedGraph, calibrated: CalibratedDevice, store: Path) -> float | None:
    """The latency of this very network where it was measured as a whole; None where there is no such measurement."""
    from ..estimator.live.judgement import executed_sum
    from ..estimator.live.store import LiveStore

    if not store.exists():
        return None
    digest = executed_sum(calibrated, graph).digest
    with closing(LiveStore(store)) as opened:
        networks = opened.all(device=calibrated.device, toolchain=calibrated.toolchain, subject="network")
    return next((n.measured.latency_us for n in networks if n.definition.digest == digest), None)


def _executed(calibrated: CalibratedDevice, path: Path, model: ModelProto) -> ExecutedGraph:
    """What the calibrated runtime is given; a board need not be there for that."""
    if calibrated.toolchain.endswith(_REMOTE):
        from importlib.metadata import version

        from ..estimator.live.tvm_runner import tvm_graph

        here = f"apache-tvm {version('apache-tvm')}"
        if calibrated.toolchain.partition(",")[0] != here:
            raise _another(path, calibrated.toolchain, here)
        return tvm_graph(model)
    return runner_for(calibrated.toolchain, path).executed(model)


def runner_for(toolchain: str, path: Path) -> LiveRunner:
    """The runtime that was calibrated; `EstimatorError` when another version is installed."""
    match = _TOOLCHAIN.match(toolchain)
    if match is None:
        raise EstimatorError(f"toolchain {toolchain!r} is no runtime of this host", where=str(path))
    runner = runner_of(match[1].removeprefix("apache-"), int(match[2]))
    if runner.toolchain != toolchain:
        raise _another(path, toolchain, runner.toolchain)
    return runner


def _another(path: Path, calibrated: str, here: str) -> EstimatorError:
    return EstimatorError(
        f"{path.name} was calibrated with {calibrated}, here is {here}",
        where=str(path),
        hint="calibrate again, or install that version",
    )
