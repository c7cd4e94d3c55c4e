"""`lanefit calibrate --live`: measures pieces of sample networks on this host now, and fits them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, EstimatorError, UnknownNameError
from ..common.files import read_json
from .output import Output
from .tables import pairs, table

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..estimator.live.executed import ExecutedGraph
    from ..estimator.live.files import CalibratedDevice
    from ..estimator.live.judgement import LiveCard
    from ..estimator.live.sessions import LiveRunner
    from ..estimator.live.store import LiveMeasurement, LiveStore

RUNTIMES = ("onnxruntime", "tvm")
_LEAST_PIECES = 10


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What to measure: pieces of `samples` with `runtime` on `threads` processors, kept in `store`."""

    samples: tuple[Path, ...]
    runtime: str
    threads: int
    measurements: int
    store: Path
    seed: int


def calibrate_live(output: Output, target: str, plan: LivePlan, path: Path) -> int:
    """Measures what `plan.store` does not hold yet, fits, writes `path` and prints the card.

    Raises:
        ConfigError: no sample networks.
        UnknownNameError: a runtime that is none of `RUNTIMES`.
    """
    from ..estimator.live.files import save_device
    from ..estimator.live.judgement import live_card
    from ..estimator.live.store import LiveStore

    models = _models(plan.samples)
    runner = runner_of(plan.runtime, plan.threads)
    graphs = {name: runner.executed(model) for name, model in models.items()}
    output.note(f"measurements are kept in {plan.store}; the same command continues after an interruption")
    with closing(LiveStore(plan.store)) as store:
        calibrated, networks = _measure(output, runner, graphs, store, plan)
    save_device(path, calibrated)
    card = live_card(calibrated, networks)
    output.result({"file": str(path), "target": target, "card": card.as_dict()}, *_tables(target, card, path))
    return 0


def runner_of(runtime: str, threads: int) -> LiveRunner:
    """The runner of a runtime on this host."""
    if runtime == "onnxruntime":
        from ..estimator.live.ort_runner import OrtRunner

        return OrtRunner(threads)
    if runtime == "tvm":
        from ..estimator.live.tvm_runner import TvmRunner

        return TvmRunner(threads)
    raise UnknownNameError("runtime", runtime, RUNTIMES, where="--runtime")


def is_live_file(path: Path) -> bool:
    """Whether `path` says of itself that it holds a live calibration."""
    from ..estimator.live.files import SCHEMA

    try:
        value = read_json(path)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("schema") == SCHEMA


def _models(samples: Sequence[Path]) -> dict[str, ModelProto]:
    from ..export.onnx_model import load_model

    if not samples:
        raise ConfigError(
            "a live calibration needs networks to take pieces of", where="--sample", hint="give ONNX files like yours"
        )
    found = {str(path): load_model(path) for path in samples}
    if len(found) < len(samples):
        raise ConfigError("a sample network is given twice", where="--sample")
    return found


def _measure(
    output: Output, runner: LiveRunner, graphs: dict[str, ExecutedGraph], store: LiveStore, plan: LivePlan
) -> tuple[CalibratedDevice, list[LiveMeasurement]]:
    """The calibration, and the sample networks as wholes, which judge it."""
    from ..estimator.live.calibrate import Budget, calibrate, measure_networks
    from ..estimator.live.files import CalibratedDevice
    from ..estimator.live.reference import gauge
    from ..estimator.live.state import cache_steps

    if plan.measurements < _LEAST_PIECES:
        raise EstimatorError(f"{plan.measurements} measurements are too few", hint=f"measure {_LEAST_PIECES} or more")
    caches = cache_steps()
    with closing(gauge(runner)) as reference:
        with output.bar("measure") as update:
            model = calibrate(
                runner, list(graphs.values()), store, caches=caches, budget=Budget(measurements=plan.measurements),
                reference=reference, seed=plan.seed, progress=lambda done, total: update(done, total, "pieces"),
            )  # fmt: skip
        networks = measure_networks(runner, graphs, store, caches=caches, reference=reference, seed=plan.seed)
    return CalibratedDevice(model, runner.device, runner.toolchain, caches), list(networks.values())


def _tables(target: str, card: LiveCard, path: Path) -> list[Any]:
    facts: list[tuple[str, object]] = [
        ("device", f"{target}: {card.device}"),
        ("toolchain", card.toolchain),
        ("measurements", f"{card.pieces} pieces of networks"),
        ("data hash", card.data_hash),
        ("split", "whole networks, none of which was part of the fit"),
    ]
    if card.networks is not None:
        found = card.networks
        facts.append((f"{found.count} networks", f"{found.acc10:.1%} within 10 %, RMSPE {found.rmspe:.1%}"))
    facts.append(("written to", path))
    kinds = table(("operator", "in pieces"), card.kinds.items(), numbers=("in pieces",), title="valid for")
    return [pairs(facts, title="model card"), kinds]
