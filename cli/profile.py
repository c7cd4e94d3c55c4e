"""`lanefit profile`: the verdict, where every cycle and byte goes, and what to do about the worst."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import ConfigError
from ..common.optimise import Optimise
from .command import command
from .options import (
    ArchitectureOption,
    BudgetOption,
    InputShapeOption,
    ModelArgument,
    OptimiseOption,
    PrecisionFileOption,
    PrecisionOfOption,
    PrecisionOption,
    ProfileTargetOption,
    SramLimitOption,
    TaskOption,
    hardware_budget,
    parse_precision,
    parse_shape,
)
from .output import Output


@command
def profile(
    output: Output,
    model: ModelArgument,
    target: ProfileTargetOption = "",
    budget: BudgetOption = None,
    architecture: ArchitectureOption = None,
    task: TaskOption = "",
    sram_limit: SramLimitOption = "",
    optimise: OptimiseOption = Optimise.LATENCY,
    precision: PrecisionOption = "",
    precision_of: PrecisionOfOption = None,
    precision_file: PrecisionFileOption = None,
    input_shape: InputShapeOption = "",
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace", metavar="FILE", help="Write a timeline for Perfetto or chrome://tracing.", show_default=False
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots", metavar="DIR", help="Draw SRAM over time and the roofline, with their data.", show_default=False
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=0, help="How many of the slowest subgraphs to comment on.")] = 5,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="Estimate instead of compiling (architectures only).")
    ] = False,
) -> int:
    """Say where a network's cycles and bytes go on a target, and whether it is inside a budget."""
    from ..common.units import parse_bytes
    from .model_argument import resolve
    from .model_profile import profile_of, target_of
    from .profile_report import profile_document, profile_tables

    limits = hardware_budget(budget)
    if target.endswith(".json"):
        from .device_profile import profile_on_device
        from .live_calibration import is_live_file
        from .live_profile import profile_live

        found = resolve(model, architecture=architecture, task=task)
        if is_live_file(Path(target)):
            return profile_live(output, found, Path(target), limits, top)
        return profile_on_device(output, found, Path(target), limits, parse_shape(input_shape), top)
    limit_bytes = parse_bytes(sram_limit, where="--sram-limit") if sram_limit else None
    found = resolve(model, architecture=architecture, task=task)
    spec = target_of(found, target)
    if predicted and optimise is not Optimise.LATENCY:
        raise ConfigError(
            f"the estimator knows plans for latency, not for {optimise}",
            where="--optimise",
            hint="leave --predicted out: compiling takes seconds",
        )
    chosen = parse_precision(precision, precision_of, precision_file)
    if predicted:
        from .prediction import predict

        return predict(output, found, spec, limits, chosen)
    shape = parse_shape(input_shape)
    result = profile_of(
        output, found, spec, input_shape=shape, sram_limit_bytes=limit_bytes, optimise=optimise, precision=chosen
    )
    verdict = result.judge(limits)
    if trace is not None:
        from ..common.files import write_json

        write_json(trace, result.timeline())
    if plots is not None:
        from ..export.plots import write_plots

        write_plots(result, plots, name=found.name, top=top)
    document = profile_document(found.name, result, verdict, top)
    output.result(document, *profile_tables(found.name, result, verdict, top))
    return 0 if verdict.passed else 1
