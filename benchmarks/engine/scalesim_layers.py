"""Holds the output-stationary array against SCALE-Sim's stall-free compute cycles, layer by layer.

Two figures for each output-stationary row of the table whose array has a preset (`systolic-16x16`, ...):
`instruction_error`, the layer as one instruction, and `compiled_error`, the array cycles of the program that the
compiler makes of it, which may cut it into tiles that each fill and drain the array. Errors are relative to the table;
`largest` is the worst of all layers.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lanefit.export.lower import compile_subgraph
from lanefit.export.tiling import isolated_cycles
from lanefit.kernels.ops import Conv2d, Window
from lanefit.kernels.search import candidates
from lanefit.kernels.subgraph import Memory, Subgraph
from lanefit.targets.cost import conv_work
from lanefit.targets.spec import EngineSpec, load_spec, preset_names
from lanefit.targets.timing import simulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

_TIMED = 8  # of the tilings with the best closed form, the fastest on the timing model is taken


@dataclass(frozen=True, slots=True)
class Comparison:
    """One layer on one array, in cycles."""

    network: str
    layer: str
    array: str
    table_cycles: int
    instruction_cycles: float
    compiled_cycles: float

    @property
    def instruction_error(self) -> float:
        return self.instruction_cycles / self.table_cycles - 1

    @property
    def compiled_error(self) -> float:
        return self.compiled_cycles / self.table_cycles - 1


def compare(path: Path) -> Iterator[Comparison]:
    """The output-stationary rows of `scalesim_layers.csv` on presets, dense layers only: the table has no other."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = f"systolic-{row['array']}"
            if row["dataflow"] == "os" and row["groups"] == "1" and name in preset_names():
                spec, conv = load_spec(name), convolution(row)
                cycles = instruction_cycles(spec, conv), compiled_cycles(spec, conv)
                yield Comparison(row["net"], row["layer"], row["array"], int(row["compute_cycles"]), *cycles)


def convolution(row: dict[str, str]) -> Conv2d:
    """The layer of a row. M of the table is the number of output positions, of a square map or of a vector."""
    height, width, kernel, inputs, outputs, stride, pad = (
        int(row[key]) for key in ("H", "W", "k", "Cin", "Cout", "stride", "pad")
    )
    rows, cols = ((extent + 2 * pad - kernel) // stride + 1 for extent in (height, width))
    assert rows * cols == int(row["M"]), row
    return Conv2d((height, width, inputs), (rows, cols, outputs), Window(kernel, kernel, stride, stride, pad, pad))


def instruction_cycles(spec: EngineSpec, conv: Conv2d) -> float:
    """Array cycles of the layer as one instruction."""
    w = conv.window
    return conv_work(
        spec, *conv.output, conv.input[2], w.kernel_h, w.kernel_w,
        depthwise=False, residual=False, stride=(w.stride_h, w.stride_w),
    ).array  # fmt: skip


def compiled_cycles(spec: EngineSpec, conv: Conv2d) -> float:
    """Array cycles of the compiled layer between maps that lie in SRAM."""
    subgraph = Subgraph((conv,), Memory.SRAM, Memory.SRAM)
    fastest = min(candidates(subgraph, spec)[:_TIMED], key=lambda choice: isolated_cycles(subgraph, spec, choice))
    program = compile_subgraph(subgraph, spec, fastest)
    return sum(label.array for label in simulate(program).labels)


def main() -> int:
    options = parser(__doc__, seed=None)
    options.add_argument("--tables", type=Path, required=True, help="directory with scalesim_layers.csv")
    args = options.parse_args()
    found = list(compare(args.tables / "scalesim_layers.csv"))
    print(f"{'network':12}{'layer':14}{'array':>8}{'table':>10}{'instruction':>13}{'compiled':>10}")
    for item in found:
        print(
            f"{item.network:12}{item.layer:14}{item.array:>8}{item.table_cycles:10}"
            f"{item.instruction_error:13.2%}{item.compiled_error:10.2%}"
        )
    figures: dict[str, Any] = {"layers": [asdict(item) for item in found]}
    for name in ("instruction_error", "compiled_error"):
        errors = [abs(getattr(item, name)) for item in found]
        figures[name] = {"mean": fmean(errors), "largest": max(errors)}
        print(f"{name}: mean {fmean(errors):.2%}, largest {max(errors):.2%}")
    finish(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
