"""Options that several commands share, under one name and meaning everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..common.budget import Budget
from ..common.errors import ConfigError
from ..common.optimise import Optimise

if TYPE_CHECKING:
    from ..export.precision import Precision

TargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        envvar="LANEFIT_TARGET",
        metavar="NAME|FILE.toml",
        help="Engine: a preset or a description of your own.",
        show_default=False,
    ),
]
ProfileTargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        envvar="LANEFIT_TARGET",
        metavar="NAME|FILE.toml|FILE.json",
        help="Engine: a preset or a description of your own; or a device that was calibrated (.json).",
        show_default=False,
    ),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        "-b",
        envvar="LANEFIT_BUDGET",
        metavar="NAME=LIMIT",
        help="A limit such as latency=2ms, sram=512KiB, weights=1MiB, energy=50uJ or accuracy=97%; repeatable.",
        show_default=False,
    ),
]
ArchitectureOption = Annotated[
    Path | None,
    typer.Option(
        "--architecture", "-a", metavar="FILE", help="TOML or JSON architecture for a family.", show_default=False
    ),
]
TaskOption = Annotated[
    str,
    typer.Option(
        "--task", metavar="NAME", help="Task that sets input channels and classes of a family: a name or folder:PATH."
    ),
]
SramLimitOption = Annotated[
    str,
    typer.Option(
        "--sram-limit",
        metavar="SIZE",
        help="Let the memory plan use no more SRAM than this, e.g. 256KiB.",
        show_default=False,
    ),
]
OptimiseOption = Annotated[
    Optimise,
    typer.Option(
        "--optimise",
        help="Few cycles, or little SRAM: 5 % more cycles for at most half of it, or up to 25 % more.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="int8|int8x16|bf16",
        help="Arithmetic of the operators on the engine: int8 (the default), int8 weights with int16 maps, or bf16.",
        show_default=False,
    ),
]
PrecisionFileOption = Annotated[
    Path | None,
    typer.Option(
        "--precision-file",
        metavar="FILE.toml",
        help="A table [precision] of name patterns and their precisions; options go before it.",
        show_default=False,
    ),
]
PrecisionOfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--precision-of",
        metavar="PATTERN=PRECISION",
        help="Another precision for operators whose names fit a pattern such as 'head*'; repeatable, the first wins.",
        show_default=False,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Family, baseline, run directory, *.lanefit package or *.onnx file.", show_default=False
    ),
]
PackageArgument = Annotated[Path, typer.Argument(metavar="PACKAGE", help="A *.lanefit package.", show_default=False)]
InputShapeOption = Annotated[
    str,
    typer.Option(
        "--input-shape",
        metavar="1x3x224x224",
        help="Shape for an ONNX model with dynamic dimensions.",
        show_default=False,
    ),
]


def parse_shape(text: str) -> tuple[int, ...] | None:
    """The extents in "1x3x224x224"; None for no text."""
    if not text:
        return None
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"{text!r} is not a shape", where="--input-shape", hint="write 1x3x224x224")
    return tuple(int(part) for part in parts)


def parse_precision(default: str, overrides: list[str] | None, file: Path | None = None) -> Precision:
    """The precisions of `--precision` and `--precision-of`, then those of `--precision-file`."""
    from ..export.precision import INT8, Precision, parse_override
    from ..export.precision_file import read_precision

    given = INT8 if file is None else read_precision(file)
    return Precision(default or given.default, (*map(parse_override, overrides or ()), *given.overrides))


def hardware_budget(texts: list[str] | None) -> Budget:
    """The limits in --budget; an accuracy floor is refused, since nothing here measures accuracy."""
    limits = Budget.parse(texts or (), where="--budget")
    if limits.accuracy is not None:
        raise ConfigError(
            "no accuracy is measured here", where="--budget", hint="accuracy floors belong to `lanefit search`"
        )
    return limits
