"""`lanefit calibrate`: an estimator for a device that you have measured, or that is measured now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..common.errors import ConfigError, UnknownNameError
from .command import command
from .output import Output

if TYPE_CHECKING:
    from ..estimator.devices.machine import Machine
    from ..estimator.tables.cells import Quantity


@command
def calibrate(
    output: Output,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A name for the device.", show_default=False)],
    kernels: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="CSV", help="Measured operators: kind, shape, latency_ms or _us.", show_default=False
        ),
    ] = None,
    networks: Annotated[
        Path | None,
        typer.Option("--networks", metavar="CSV", help="Measured networks: onnx, latency_ms.", show_default=False),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAME", help="Element type of operators without a dtype column.")
    ] = "float32",
    quantity: Annotated[
        str, typer.Option("--quantity", metavar="NAME", help="Which columns of tables to read: latency or energy.")
    ] = "latency",
    units: Annotated[
        int | None,
        typer.Option("--units", min=1, help="Parallel units; found from the data if absent.", show_default=False),
    ] = None,
    pack: Annotated[int, typer.Option("--pack", min=1, help="Channels packed together, with --units.")] = 1,
    fusion: Annotated[
        bool,
        typer.Option(help="Activations and residual sums run in one pass with the convolution before them."),
    ] = True,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: TARGET.device.json.", show_default=False),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Draw how good the estimator is.", show_default=False),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Measure this host now instead of reading tables.")] = False,
    samples: Annotated[
        list[Path] | None,
        typer.Option(
            "--sample", metavar="ONNX", help="A network like yours, measured in pieces; repeatable.", show_default=False
        ),
    ] = None,
    runtime: Annotated[str, typer.Option("--runtime", metavar="NAME", help="onnxruntime or tvm.")] = "onnxruntime",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Processors to measure on.")] = 1,
    count: Annotated[int, typer.Option("--measurements", min=1, help="Pieces of networks to measure.")] = 280,
    rules: Annotated[
        bool, typer.Option("--rules/--no-rules", help="With --live: ask the runtime what it runs in one pass.")
    ] = True,
    board: Annotated[
        str,
        typer.Option(
            "--board", metavar="HOST:PORT", help="TVM's RPC server on a board, with --live.", show_default=False
        ),
    ] = "",
    board_target: Annotated[
        str,
        typer.Option("--board-target", metavar="TRIPLE,CPU", help="The board's instruction set.", show_default=False),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of random choices.")] = 0,
) -> int:
    """Fit a latency estimator of a device from measured operators, measured networks, or both.

    With --live this host is measured, in pieces of the sample networks; an interrupted measurement continues. Prints
    the model card; `lanefit profile MODEL --target FILE` predicts with what is written.
    """
    path = file or Path(f"{target}.device.json")
    if not target.strip() or "/" in target:
        raise ConfigError(f"{target!r} is no name for a device", where="TARGET", hint="a word, such as board-3")
    if live:
        from .board import parse_board
        from .live_calibration import LivePlan, calibrate_live

        if kernels or networks or units or quantity != "latency":
            raise ConfigError("--live measures, and reads no tables", where="--live", hint="calibrate twice")
        store, place = path.with_suffix(".sqlite"), parse_board(target, board, board_target)
        plan = LivePlan(tuple(samples or ()), runtime, threads, count, store, seed, rules, plots, place)
        return calibrate_live(output, target, plan, path)
    measured = _quantity(quantity)
    return _from_tables(
        output, target, kernels, networks, dtype, measured, _machine(units, pack), fusion, path, plots, seed
    )


def _from_tables(
    output: Output,
    target: str,
    kernels: Path | None,
    networks: Path | None,
    dtype: str,
    quantity: Quantity,
    machine: Machine | None,
    fusion: bool,
    path: Path,
    plots: Path | None,
    seed: int,
) -> int:
    from ..estimator.devices.files import save_device
    from ..estimator.devices.fitting import fit_device
    from ..estimator.devices.sources import read_measurements
    from ..estimator.opgraph.fusion import EPILOGUES, NO_FUSION
    from .calibrate_report import card_document, card_tables

    begin = output.stages("calibrate")
    begin("reading")
    measurements = read_measurements(kernels, networks, dtype=dtype, quantity=quantity)
    begin("fitting")
    rules = EPILOGUES if fusion else NO_FUSION
    fit = fit_device(target, measurements, machine=machine, fusion=rules, seed=seed)
    save_device(fit.estimator, path)
    drawn: list[Path] = []
    if plots is not None:
        from ..estimator.devices.plots import write_plots

        begin("drawing")
        drawn = write_plots(fit, measurements, plots, seed=seed)
    output.result(card_document(fit.estimator, path, drawn), *card_tables(fit.estimator, path))
    return 0


def _quantity(name: str) -> Quantity:
    from ..estimator.tables.cells import Quantity

    if name not in tuple(Quantity):
        raise UnknownNameError("quantity", name, [str(known) for known in Quantity], where="--quantity")
    return Quantity(name)


def _machine(units: int | None, pack: int) -> Machine | None:
    from ..estimator.devices.machine import Machine

    if units is None and pack > 1:
        raise ConfigError("packing is found from the data together with the units", where="--pack", hint="give --units")
    return None if units is None else Machine(units, pack)
