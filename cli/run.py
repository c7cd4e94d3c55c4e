"""`lanefit run`: an input file through a package, on the emulated engine."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..common.units import format_us
from .command import command
from .options import PackageArgument
from .output import Output
from .tables import pairs, table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..export.package import Package


@command
def run(
    output: Output,
    package: PackageArgument,
    input_: Annotated[
        Path, typer.Option("--input", "-i", metavar="FILE", help="An image, or a *.npy tensor.", show_default=False)
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes to show.")] = 3,
    timed: Annotated[bool, typer.Option("--time", help="Time each unit on the cycle model.")] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="What executes the engine's part: emulator.")
    ] = "emulator",
) -> int:
    """Classify an image, or run a tensor, through a package: host module plus emulated engine."""
    from ..common.errors import UnknownNameError
    from ..export.classes import top_classes
    from ..export.package import read_package
    from ..export.run import run_package
    from .input_file import read_input

    if device != "emulator":
        raise UnknownNameError("device", device, ["emulator"], where="--device")
    found = read_package(package)
    inputs = read_input(input_, found)
    start = time.perf_counter()
    results = run_package(found, inputs)
    seconds = time.perf_counter() - start
    names = found.manifest.preprocessing.class_names if found.manifest.preprocessing else ()
    document: dict[str, Any] = {
        "package": str(package),
        "input": str(input_),
        "device": device,
        "latency_us": found.manifest.figures.get("latency_us"),
        "outputs": {name: array.tolist() for name, array in results.items()},
        "top": [[asdict(item) for item in best] for best in top_classes(results, names, top)],
    }
    if timed:
        document |= {"units": _units(found), "emulation_seconds": seconds}
    output.result(document, *_tables(document, results))
    return 0


def _units(package: Package) -> list[dict[str, Any]]:
    from ..targets.timing import simulate

    timings = [(number, simulate(program)) for number, program in enumerate(package.programs())]
    return [
        {"region": number, "unit": u.unit.name, "busy_cycles": u.busy, "stall_cycles": u.stall, "cycles": timing.cycles}
        for number, timing in timings
        for u in timing.units
    ]


def _tables(document: dict[str, Any], results: dict[str, NDArray]) -> list[Any]:
    shown: list[Any] = []
    for number, best in enumerate(document["top"]):
        rows = [(item["name"], f"{item['score']:.1%}") for item in best]
        title = f"sample {number}" if len(document["top"]) > 1 else ""
        shown.append(table(("class", "score"), rows, title=title, numbers=("score",)))
    if not document["top"]:
        rows = [(name, array.shape, array.min(), array.max()) for name, array in results.items()]
        shown.append(table(("output", "shape", "smallest", "largest"), rows))
    latency = document["latency_us"]
    shown.append(pairs([("modelled latency on the engine", "unknown" if latency is None else format_us(latency))]))
    if units := document.get("units"):
        headers = tuple(units[0])
        shown.append(table(headers, [tuple(unit.values()) for unit in units], numbers=headers))
        shown.append(f"emulated in {document['emulation_seconds']:.2f} s on this machine")
    return shown
