"""Whole networks on an Ethos-U preset, our schedule against Vela's: total cycles and peak SRAM.

Networks, cycles and SRAM come from Vela's tables in DIR (`vela_per_layer_blockcfg.csv`, `vela_summary.csv`). Our
`latency` mode is held against the `Performance` rows, our `sram` mode against the `Size` rows. What the graphs leave
out (see vela_graphs.py: `Quantize`, a final softmax) is taken off Vela's cycles as well, and named. Weights, whose
zeros the engine's weight decoder leaves out, come from `DIR/models/MODEL.tflite` where that file exists, and are
otherwise random without zeros.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

from lanefit.common.errors import InputError
from lanefit.common.optimise import Optimise
from lanefit.export.compiler import compile_graph
from lanefit.targets.spec import EngineSpec, load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from engine.tflite_weights import read_weights, with_weights
from engine.vela_graphs import LAYERS, SUMMARY, Row, TableNetwork, network, read_table

from common import finish, parser

_LAYER = ("model", "accel", "idx", "op", "ifm", "ifm2", "ofm", "k", "s", "op_cycles")
_SUMMARY = ("model", "accel", "system_config", "memory_mode", "optimise", "cycles_total", "sram_used_kib")
_MODES = {Optimise.LATENCY: "Performance", Optimise.SRAM: "Size"}


def measure(found: TableNetwork, spec: EngineSpec, mode: Optimise, theirs: Row) -> dict[str, Any]:
    """One network in one mode: cycles and SRAM of either side with their ratios."""
    start = time.perf_counter()
    compiled = compile_graph(found.graph, spec, optimise=mode)
    seconds = time.perf_counter() - start
    cycles = float(theirs["cycles_total"]) - found.left_out_cycles
    kib = float(theirs["sram_used_kib"])
    return {
        "cycles": compiled.timing.cycles,
        "vela_cycles": cycles,
        "cycles_ratio": compiled.timing.cycles / cycles,
        "sram_kib": compiled.sram_bytes / 1024,
        "vela_sram_kib": kib,
        "sram_ratio": compiled.sram_bytes / 1024 / kib,
        "left_out": sorted(set(found.left_out)),
        "left_out_cycles": found.left_out_cycles,
        "compile_seconds": seconds,
    }


def geomean(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def summary_row(rows: list[Row], model: str, args: Any, wanted: str) -> Row:
    """The row of the summary for a model in one of Vela's modes."""
    key = {"model": model, "accel": args.target, "system_config": args.system, "memory_mode": args.memory}
    for row in rows:
        if row["optimise"] == wanted and all(row[name] == value for name, value in key.items()):
            return row
    raise InputError(f"no row for {model}, {args.target}, {wanted}", where=SUMMARY)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--tables", type=Path, required=True, metavar="DIR", help="folder with Vela's tables")
    options.add_argument("--target", default="ethos-u55-128", help="preset and accelerator (default: %(default)s)")
    options.add_argument("--system", default="Ethos_U55_High_End_Embedded", help="(default: %(default)s)")
    options.add_argument("--memory", default="Shared_Sram", help="(default: %(default)s)")
    options.add_argument("--model", action="append", help="only this model of the tables; may be repeated")
    args = options.parse_args()
    spec = load_spec(args.target)
    layers = read_table(
        args.tables / LAYERS, "model", "accel", "idx", "op", "ifm", "ifm2", "ofm", "k", "s", "op_cycles"
    )
    summary = read_table(
        args.tables / SUMMARY,
        *("model", "accel", "system_config", "memory_mode", "optimise", "cycles_total", "sram_used_kib"),
    )
    models = args.model or list(dict.fromkeys(row["model"] for row in layers if row["accel"] == args.target))
    figures: dict[str, Any] = {"target": spec.name}
    print(f"{'network':32}{'mode':>8}{'cycles':>12}{'Vela':>12}{'ratio':>7}{'KiB':>9}{'Vela':>9}{'ratio':>7}{'s':>6}")
    for model in models:
        rows = [row for row in layers if row["model"] == model and row["accel"] == args.target]
        found = network(rows, f"{LAYERS}: {model}")
        file = args.tables / "models" / f"{model}.tflite"
        weights = read_weights(file) if file.exists() else []
        found = replace(found, graph=with_weights(found.graph, weights, args.seed))
        figures[model] = {}
        for mode, wanted in _MODES.items():
            got = figures[model][str(mode)] = measure(found, spec, mode, summary_row(summary, model, args, wanted))
            print(
                f"{model:32}{mode:>8}{got['cycles']:12,}{got['vela_cycles']:12,.0f}{got['cycles_ratio']:7.3f}"
                f"{got['sram_kib']:9.1f}{got['vela_sram_kib']:9.1f}{got['sram_ratio']:7.3f}{got['compile_seconds']:6.1f}"
            )
        print(f"  left out on both sides: {', '.join(sorted(set(found.left_out))) or 'nothing'}")
    for name in ("cycles_ratio", "sram_ratio"):
        by_mode = {str(mode): geomean([figures[m][str(mode)][name] for m in models]) for mode in _MODES}
        figures[name] = geomean(list(by_mode.values()))
        figures[f"{name}_by_mode"] = by_mode
        print(f"{name:12} {figures[name]:.3f}   " + "  ".join(f"{k} {v:.3f}" for k, v in by_mode.items()))
    finish(args.json, figures, seed=args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
