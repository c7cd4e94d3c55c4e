"""`lanefit export`: a model becomes a verified package for a target."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..common.errors import ConfigError
from ..common.optimise import Optimise
from ..common.units import format_bytes, format_us
from .command import command
from .model_argument import Model, ModelKind, resolve
from .options import (
    ArchitectureOption,
    BudgetOption,
    InputShapeOption,
    ModelArgument,
    OptimiseOption,
    PrecisionFileOption,
    PrecisionOfOption,
    PrecisionOption,
    TargetOption,
    TaskOption,
    hardware_budget,
    parse_precision,
    parse_shape,
)
from .output import Output
from .profile_report import cpu_table
from .tables import judgement_line, pairs, table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..export.judgement import Judgement
    from ..export.package import Preprocessing
    from ..export.pipeline import ExportResult, Source

_TASK = "task:"


@command
def export(
    output: Output,
    model: ModelArgument,
    target: TargetOption = "",
    file: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Package to write; default MODEL.lanefit.", show_default=False
        ),
    ] = None,
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration",
            "-c",
            metavar="FOLDER|task:NAME",
            help="Images or *.npy files that set the quantisation ranges; by default the training images of the task.",
            show_default=False,
        ),
    ] = "",
    budget: BudgetOption = None,
    architecture: ArchitectureOption = None,
    task: TaskOption = "",
    input_shape: InputShapeOption = "",
    optimise: OptimiseOption = Optimise.LATENCY,
    precision: PrecisionOption = "",
    precision_of: PrecisionOfOption = None,
    precision_file: PrecisionFileOption = None,
    tosa: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Also write the engine's part as TOSA 1.0 files (needs tosa-tools).",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Export a network to a package for a target, verifying every stage on the way."""
    from ..export.compiler import compile_graph
    from ..export.package import write_package
    from ..export.pipeline import export_model
    from .model_profile import target_of

    limits = hardware_budget(budget)
    found = resolve(model, architecture=architecture, task=task)
    if found.kind is ModelKind.PACKAGE:
        raise ConfigError(
            "this is a package already", where=str(found.path), hint="export the model that it was made of"
        )
    spec, chosen = target_of(found, target), parse_precision(precision, precision_of, precision_file)
    parts = _ingredients(output, found, calibration, parse_shape(input_shape))
    result = export_model(
        parts.source,
        spec,
        parts.samples,
        name=found.name,
        input_shape=parts.input_shape,
        budget=limits if limits.limits() else None,
        preprocessing=parts.preprocessing,
        provenance=parts.provenance,
        compile_with=partial(compile_graph, optimise=optimise),
        precision=chosen,
        on_stage=output.stages("export"),
    )
    path = file or Path(f"{found.name}.lanefit")
    write_package(path, result.package)
    if tosa is not None:
        _write_tosa(tosa, result)
    judgement = result.built.check(limits)
    output.result(_document(path, result, judgement), *_tables(path, result, judgement))
    return 0 if judgement.passed else 1


@dataclass(frozen=True, slots=True)
class _Ingredients:
    """What `export_model` needs, whatever MODEL was."""

    source: Source
    samples: list[NDArray] | None
    input_shape: tuple[int, ...] | None
    preprocessing: Preprocessing | None
    provenance: dict[str, str] = field(default_factory=dict)


def _ingredients(output: Output, model: Model, calibration: str, input_shape: tuple[int, ...] | None) -> _Ingredients:
    if model.kind is ModelKind.ONNX:
        return _of_onnx(model, calibration, input_shape)
    from ..nas.calibration import folder_samples, preprocessing_of, task_samples

    assert model.architecture is not None
    if model.weights is None:
        output.warn(f"{model.name} was never trained: its weights are random and its answers chance")
    module = model.module()
    resolution = model.layers()[0].input_shape[1]
    steps = preprocessing_of(model.task(), resolution)
    if calibration and not calibration.startswith(_TASK):
        samples = folder_samples(Path(calibration), steps)
    else:
        samples = task_samples(_task(calibration) if calibration else model.task(), resolution)
    provenance = {
        "family": model.architecture.family,
        "architecture": model.architecture.to_json(),
        "task": model.task_name,
    }
    return _Ingredients(module, samples, None, steps, provenance)


def _of_onnx(model: Model, calibration: str, input_shape: tuple[int, ...] | None) -> _Ingredients:
    from ..export.onnx_model import GraphIndex, load_model, with_static_shapes
    from ..nas.calibration import folder_preprocessing, folder_samples, preprocessing_of, task_samples

    assert model.path is not None
    if not calibration:
        return _Ingredients(model.path, None, input_shape, None)
    index = GraphIndex(with_static_shapes(load_model(model.path), input_shape))
    shape = index.shape(index.inputs[0])
    if calibration.startswith(_TASK):
        task = _task(calibration)
        steps = preprocessing_of(task, shape[-1])
        return _Ingredients(model.path, task_samples(task, shape[-1]), input_shape, steps, {"task": task.name})
    folder = Path(calibration)
    arrays = any(folder.rglob("*.npy"))
    steps = None if arrays else folder_preprocessing(shape)
    return _Ingredients(model.path, folder_samples(folder, steps), input_shape, steps)


def _task(calibration: str) -> Any:
    from ..models.registry import find_task

    return find_task(calibration.removeprefix(_TASK))


def _write_tosa(folder: Path, result: ExportResult) -> None:
    """One file beside each program, of the same stem."""
    from ..common.files import write_atomic
    from ..export.tosa import to_tosa

    for region, info in zip(result.built.imported.regions, result.package.manifest.regions, strict=True):
        write_atomic(folder / Path(info.program).with_suffix(".tosa"), to_tosa(region.graph))


def _document(path: Path, result: ExportResult, judgement: Judgement) -> dict[str, Any]:
    manifest = result.package.manifest
    on_cpu = [placement.as_dict() for placement in result.placements if placement.where == "cpu"]
    return {
        "package": str(path),
        "size_bytes": path.stat().st_size,
        "target": manifest.target.name,
        "verdict": judgement.as_dict(),
        "figures": manifest.figures,
        "verification": result.verify.as_dict(),
        "cpu": on_cpu,
        "members": {name: len(data) for name, data in sorted(result.package.files.items())},
    }


def _tables(path: Path, result: ExportResult, judgement: Judgement) -> list[Any]:
    from ..export.judgement import refused

    shown: list[Any] = [judgement_line(judgement), _stages(result)]
    on_cpu = refused(result.placements)
    if on_cpu:
        shown.append(cpu_table(on_cpu))
    figures = result.package.manifest.figures
    engine = sum(placement.where == "engine" for placement in result.placements)
    shown.append(
        pairs(
            [
                ("latency", format_us(figures["latency_us"]) + (" on the engine alone" if on_cpu else "")),
                ("peak SRAM", format_bytes(figures["sram_bytes"])),
                ("weights", format_bytes(figures["weight_bytes"])),
                ("operators", f"{engine} on the engine, {len(result.placements) - engine} on the CPU"),
            ]
        )
    )
    rows = [(name, format_bytes(len(data))) for name, data in sorted(result.package.files.items())]
    shown.append(table(("member", "size"), rows, title=str(path), numbers=("size",)))
    return shown


def _stages(result: ExportResult) -> Any:
    rows = [
        (
            f"{s.previous} to {s.stage}",
            f"{s.max_error:.3g}",
            f"{s.allowed:.3g}",
            f"{s.sqnr_db:.1f}",
            "" if s.top1 is None else f"{s.top1:.1%}",
            "yes" if s.passed else "NO",
        )
        for s in result.verify.stages
    ]
    headers = ("stage", "max error", "allowed", "SQNR dB", "top-1 agreement", "passed")
    return table(headers, rows, title=f"verified on {result.verify.samples} samples", numbers=headers[1:5])
