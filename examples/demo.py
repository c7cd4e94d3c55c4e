"""The whole of lanefit in one run, on real data and two CPU cores: `make demo`.

1. Train MobileNetV2-0.5 on scikit-learn's handwritten digits and export it for the engine `ne-256`: the baseline.
2. Derive a latency and an SRAM budget from it.
3. Search the family `ibn-classifier` inside that budget: zero-shot screen, then a few trained finalists.
4. Export the winner, run all 360 held-out digits through both device binaries, print one table.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Worker threads that spin while they wait would starve the other core when the machine is shared.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
from rich.console import Console
from rich.table import Table

from lanefit.common.budget import Budget
from lanefit.common.environment import environment
from lanefit.common.errors import LanefitError
from lanefit.common.files import write_json
from lanefit.common.units import cycles_to_us, format_bytes
from lanefit.estimator.fit import FitBudget, fit_engine
from lanefit.estimator.network import NetworkEstimator
from lanefit.export.compiler import SubgraphReport
from lanefit.export.engines import reference_engine
from lanefit.export.graph import Graph
from lanefit.export.onnx_model import GraphIndex
from lanefit.export.package import Preprocessing, write_package
from lanefit.export.pipeline import ExportResult, export_model
from lanefit.export.split_run import SplitModel, run_samples, session
from lanefit.models.architecture import Architecture
from lanefit.models.baselines import mobilenet_v2
from lanefit.models.registry import families, find_task
from lanefit.models.tasks import Split, Task
from lanefit.nas.bridge import to_graph
from lanefit.nas.config import SearchConfig
from lanefit.nas.figures import draw_layers, draw_pareto
from lanefit.nas.measure import engine_measure
from lanefit.nas.report_data import LayerTime, Point
from lanefit.nas.results import SearchResult
from lanefit.nas.search import run_search
from lanefit.nas.session import Step
from lanefit.nas.training import TrainConfig, evaluate, train
from lanefit.nas.weights import load_weights
from lanefit.nas.workbench import train_settings, workbench
from lanefit.targets.spec import EngineSpec, load_spec

TARGET, TASK, SEED = "ne-256", "digits", 2026
LATENCY_SHARE, SRAM_SHARE = 0.5, 0.75  # the budget, as shares of the baseline's figures
CALIBRATION_IMAGES, FIT_NETWORKS = 128, 150
TRAINING: dict[str, Any] = {"epochs": 8}
STDERR = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One network of the table. Accuracies are shares of the 360 held-out digits."""

    accuracy_float: float
    accuracy_device: float
    images: int
    images_unlike_reference: int  # device outputs that differ in any bit from the independent integer reference
    agreement_onnxruntime: float  # share of images that ONNX Runtime puts into the same class, same QDQ model
    latency_us: float
    sram_bytes: int
    weight_bytes: int
    macs: int


def say(text: str, start: float) -> None:
    STDERR.print(f"[{time.perf_counter() - start:5.0f} s] {text}", highlight=False)


def network(architecture: Architecture, task: Task, seed: int) -> Any:
    family = families.get(architecture.family)
    return family.build(architecture, input_channels=task.channels, classes=task.classes, seed=seed)


def shapes(architecture: Architecture, task: Task) -> Graph:
    family = families.get(architecture.family)
    return to_graph(family.layers(architecture, input_channels=task.channels, classes=task.classes))


def export(module: Any, task: Task, spec: EngineSpec, name: str, budget: Budget | None) -> ExportResult:
    """Quantises on training images, compiles, verifies every stage."""
    resolution = module.input_shape[1]
    images = task.normalise(task.load(Split.TRAIN, resolution, limit=CALIBRATION_IMAGES).images)
    preprocessing = Preprocessing(
        resolution=(resolution, resolution),
        channels=task.channels,
        mean=task.mean,
        std=task.std,
        class_names=task.class_names,
    )
    return export_model(module, spec, [images], name=name, budget=budget, preprocessing=preprocessing)


def judge(module: Any, exported: ExportResult, task: Task) -> Row:
    """Accuracy of the float module and of the device binary in the emulator, on every held-out image."""
    images, labels = task.load(Split.TEST, module.input_shape[1])
    inputs = task.normalise(images)
    manifest, built = exported.package.manifest, exported.built
    feeds, output = {manifest.inputs[0].name: inputs}, manifest.outputs[0].name
    device = built.run_device(feeds)[output]
    split = SplitModel(built.imported.host, GraphIndex(built.imported.model).types)
    reference = split(reference_engine(built.imported.regions), feeds)[output]
    runtime = run_samples(session(built.imported.model), feeds)[output]
    chosen = device.reshape(len(labels), -1).argmax(1)
    return Row(
        accuracy_float=evaluate(module, inputs, labels),
        accuracy_device=float((chosen == labels).mean()),
        images=len(labels),
        images_unlike_reference=int((device != reference).reshape(len(labels), -1).any(1).sum()),
        agreement_onnxruntime=float((chosen == runtime.reshape(len(labels), -1).argmax(1)).mean()),
        latency_us=exported.built.latency_us,
        sram_bytes=exported.built.sram_bytes,
        weight_bytes=exported.built.weight_bytes,
        macs=exported.built.macs,
    )


def estimator(task: Task, spec: EngineSpec) -> NetworkEstimator:
    family = families.get("ibn-classifier")
    rng = np.random.default_rng(np.random.SeedSequence((SEED, 1)))
    graphs = [shapes(family.sample(rng), task) for _ in range(FIT_NETWORKS)]
    return fit_engine(spec, graphs, seed=SEED, budget=FitBudget(workloads=1000, networks=30))


def search(budget: Budget, spec: EngineSpec, task: Task, output: Path, start: float) -> SearchResult:
    config = SearchConfig(
        target=TARGET,
        task=TASK,
        trials=150,
        finalists=3,
        seed=SEED,
        budgets={"latency": f"{budget.latency_us}us", "sram": f"{budget.sram_bytes}B"},
        train=TRAINING,
    )
    found = estimator(task, spec)
    network_error = found.card.network
    say(f"estimator fitted: {network_error.acc10:.0%} of unseen networks within ±10 %", start)
    shutil.rmtree(output / "search", ignore_errors=True)  # every demo is a search of its own
    bench, curated = workbench(config, found, spec, measure=engine_measure(spec))
    if curated is not None:
        values = sum(len(knob.dropped) for knob in curated.knobs)
        before, after = curated.cardinality_before, curated.cardinality_after
        say(f"curation drops {values} channel values: {before:.1e} candidates become {after:.1e}", start)

    def progress(step: Step) -> None:
        if step.done == step.total or step.stage == "train":
            say(f"{step.stage} {step.done}/{step.total} {step.text}", start)

    return run_search(config, output / "search", bench, progress=progress, command=sys.argv)


def table(rows: dict[str, Row], budget: Budget) -> Table:
    result = Table(title=f"{TASK} on {TARGET}: measured in this run", title_justify="left")
    for name in ("", *rows, "budget"):
        result.add_column(name, justify="right" if name else "left")
    lines = {
        "accuracy float": (lambda r: f"{r.accuracy_float:.2%}", ""),
        "accuracy int8 on device": (lambda r: f"{r.accuracy_device:.2%}", ""),
        "device ≠ integer reference": (lambda r: f"{r.images_unlike_reference} of {r.images}", ""),
        "same class as ONNX Runtime": (lambda r: f"{r.agreement_onnxruntime:.2%}", ""),
        "latency_us": (lambda r: f"{r.latency_us:.1f}", f"{budget.latency_us:.1f}"),
        "peak SRAM": (lambda r: format_bytes(r.sram_bytes), format_bytes(budget.sram_bytes or 0)),
        "weights": (lambda r: format_bytes(r.weight_bytes), ""),
        "MACs": (lambda r: f"{r.macs / 1e6:.2f} M", ""),
    }
    for label, (show, limit) in lines.items():
        result.add_row(label, *(show(row) for row in rows.values()), limit)
    return result


def layer_times(exported: ExportResult) -> list[LayerTime]:
    """Time and bound of each subgraph, in execution order; the sum is the network's latency."""
    clock = exported.built.spec.clock_mhz
    reports: list[SubgraphReport] = [report for item in exported.built.compiled for report in item.report]
    return [LayerTime(r.label, cycles_to_us(r.cycles - r.hidden_cycles, clock), r.bound) for r in reports]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("runs/demo"), help="run directory (default: %(default)s)")
    output: Path = options.parse_args().output
    start = time.perf_counter()
    spec, task = load_spec(TARGET), find_task(TASK)

    baseline = mobilenet_v2(width=0.5, resolution=32)
    module = network(baseline, task, SEED)
    say("training the baseline, MobileNetV2-0.5 at 32×32", start)
    settings: TrainConfig = dataclasses.replace(train_settings(TRAINING), seed=SEED)
    trained = train(module, task, settings, progress=True)
    exported = {"baseline": export(module, task, spec, "baseline", None)}
    rows = {"baseline": judge(module, exported["baseline"], task)}
    budget = Budget(
        latency_us=rows["baseline"].latency_us * LATENCY_SHARE,
        sram_bytes=int(rows["baseline"].sram_bytes * SRAM_SHARE),
    )
    say(f"baseline on device: {rows['baseline'].accuracy_device:.2%}; budget {budget}", start)

    result = search(budget, spec, task, output, start)
    assert result.winner is not None  # run_search raises BudgetError otherwise
    winner = network(result.winner.architecture, task, SEED)
    load_weights(winner, output / "search" / result.winner.weights)
    winner.eval()
    exported["winner"] = export(winner, task, spec, "winner", budget)
    rows["winner"] = judge(winner, exported["winner"], task)
    reference = Point("baseline", rows["baseline"].latency_us, trained.accuracy_validation, measured=True)
    draw_pareto(result, output / "report" / "pareto.png", [reference])
    report(output, rows, exported, budget, time.perf_counter() - start)
    return 0


def report(
    output: Path,
    rows: dict[str, Row],
    exported: dict[str, ExportResult],
    budget: Budget,
    seconds: float,
) -> None:
    """Packages, figures, demo.json and the table."""
    for name, item in exported.items():
        write_package(output / f"{name}.lanefit", item.package)
    draw_layers([(name, layer_times(item)) for name, item in exported.items()], output / "report" / "layers.png")
    row = rows["winner"]
    verdict = budget.check(latency_us=row.latency_us, sram_bytes=row.sram_bytes)
    figures = {
        **{name: dataclasses.asdict(row) for name, row in rows.items()},
        "budget": budget.as_dict(),
        "verdict": verdict.as_dict(),
        "seconds": seconds,
        "environment": environment(),
    }
    write_json(output / "demo.json", figures)
    console = Console()
    console.print(str(verdict), highlight=False)
    console.print(table(rows, budget))
    ratio = row.latency_us / rows["baseline"].latency_us
    console.print(f"winner ÷ baseline latency {ratio:.2f}; {seconds:.0f} s; results in {output}", highlight=False)
    console.print(
        f"next: .venv/bin/lanefit run {output / 'winner.lanefit'} --input docs/images/digit.png", highlight=False
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LanefitError as error:
        STDERR.print(f"error: {error}", highlight=False)
        sys.exit(error.exit_code)
