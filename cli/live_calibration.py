"""`lanefit calibrate --live`: measures pieces of sample networks on this host now, and fits them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, EstimatorError, UnknownNameError
from ..common.files import read_json
from .live_rules import device_rules, rules_table
from .output import Output
from .tables import pairs, table

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..estimator.live.executed import ExecutedGraph
    from ..estimator.live.files import CalibratedDevice
    from ..estimator.live.judgement import LiveCard
    from ..estimator.live.rules import DeviceRules
    from ..estimator.live.sessions import LiveRunner
    from ..estimator.live.store import LiveMeasurement, LiveStore
    from .board import Board

RUNTIMES = ("onnxruntime", "tvm")
_LEAST_PIECES = 10


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What to measure: pieces of `samples` with `runtime` on `threads` processors, kept in `store`.

    rules: ask the runtime what it joins and leaves out. plots: where to draw how good the result is. board: host:port
    of an RPC server that measures in place of this host.
    """

    samples: tuple[Path, ...]
    runtime: str
    threads: int
    measurements: int
    store: Path
    seed: int
    rules: bool = True
    plots: Path | None = None
    board: Board | None = None


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
    if plan.measurements < _LEAST_PIECES:
        raise EstimatorError(f"{plan.measurements} measurements are too few", hint=f"measure {_LEAST_PIECES} or more")
    runner = runner_of(plan.runtime, plan.threads, plan.board)
    graphs = {name: runner.executed(model) for name, model in models.items()}
    output.note(f"measurements are kept in {plan.store}; the same command continues after an interruption")
    with closing(LiveStore(plan.store)) as store:
        rules = device_rules(output, runner, plan.store.with_suffix(".rules.json"), plan.seed) if plan.rules else None
        calibrated, networks = _measure(output, runner, graphs, store, plan, rules)
    save_device(path, calibrated)
    drawn = _draw(calibrated, networks, plan.plots, target)
    card = live_card(calibrated, networks)
    document = {
        "file": str(path), "plots": [str(found) for found in drawn], "target": target, "card": card.as_dict(),
        "rules": None if rules is None else rules.as_dict(),
    }  # fmt: skip
    output.result(document, *_tables(target, card, path), *([] if rules is None else [rules_table(rules)]))
    return 0


def _draw(
    calibrated: CalibratedDevice, networks: Sequence[LiveMeasurement], folder: Path | None, target: str
) -> list[Path]:
    if folder is None:
        return []
    from ..estimator.live.plots import write_plots

    return write_plots(calibrated, networks, folder, title=target)


def runner_of(runtime: str, threads: int, board: Board | None = None) -> LiveRunner:
    """The runner of a runtime on this host, or of TVM on a board."""
    if board is not None:
        return board.runner(runtime, threads)
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
    output: Output,
    runner: LiveRunner,
    graphs: dict[str, ExecutedGraph],
    store: LiveStore,
    plan: LivePlan,
    rules: DeviceRules | None,
) -> tuple[CalibratedDevice, list[LiveMeasurement]]:
    """The calibration, and the sample networks as wholes, which judge it."""
    from ..estimator.live.calibrate import Budget, calibrate, measure_networks
    from ..estimator.live.files import CalibratedDevice
    from ..estimator.live.passes import with_passes, without_dead
    from ..estimator.live.reference import gauge
    from ..estimator.live.state import cache_steps

    marked = {name: with_passes(graph, rules) for name, graph in graphs.items()}
    whole = {name: without_dead(graph, rules) for name, graph in marked.items()}
    caches = cache_steps()
    with closing(gauge(runner)) as reference:
        with output.bar("measure") as update:
            model = calibrate(
                runner, list(marked.values()), store, caches=caches, budget=Budget(measurements=plan.measurements),
                reference=reference, seed=plan.seed, progress=lambda done, total: update(done, total, "pieces"),
            )  # fmt: skip
        networks = measure_networks(runner, whole, store, caches=caches, reference=reference, seed=plan.seed)
    return CalibratedDevice(model, runner.device, runner.toolchain, caches, rules), list(networks.values())


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
