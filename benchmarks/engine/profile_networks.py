"""Compiles and times twelve well-known networks (random weights), or ONNX files, for one engine.

`cycles` is the timing model on the compiled programs, `lower_bound_cycles` the largest of array work (a depthwise
convolution at the rate its taps allow), vector work and compulsory bytes, `ratio` the one over the other;
`ratio_to_plain_peak` divides the cycles by MACs over parallelism factor, whatever the operator. All of them cover what
runs on the engine: `cpu_operators` lists by type what does not, and `geomean_ratio_engine_only` leaves out networks
that have any. `compile_seconds` covers import, planning, lowering and timing of candidate tilings, `timing_seconds` one
more simulation of the finished programs.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from onnx import ModelProto

from lanefit.export.judgement import refused
from lanefit.export.onnx_model import GraphIndex, load_model
from lanefit.export.pipeline import build, quantised
from lanefit.export.quantise import random_calibration
from lanefit.targets.spec import EngineSpec, load_spec
from lanefit.targets.timing import simulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import NETWORKS, int8

from common import finish, parser


def quantised_model(name: str) -> ModelProto:
    """The int8 QDQ model of a named network or of an ONNX file."""
    if name in NETWORKS:
        return int8(name)
    model = load_model(Path(name))
    return quantised(model, random_calibration(GraphIndex(model).shape(model.graph.input[0].name))).int8


def profile(model: ModelProto, spec: EngineSpec) -> dict[str, Any]:
    """Figures of all engine regions together; operators on the CPU are counted by type."""
    start = time.perf_counter()
    built = build(model, spec)
    compile_seconds = time.perf_counter() - start
    start = time.perf_counter()
    cycles = sum(simulate(item.program).cycles for item in built.compiled)
    timing_seconds = time.perf_counter() - start
    bound = sum(item.lower_bound_cycles for item in built.compiled)
    plain_peak = built.macs / (spec.parallelism * spec.int8_rate)
    reports = [report for item in built.compiled for report in item.report]
    return {
        "cycles": cycles,
        "lower_bound_cycles": bound,
        "ratio": cycles / bound if bound else None,
        "ratio_to_plain_peak": cycles / plain_peak if plain_peak else None,
        "cpu_operators": dict(Counter(placement.op_type for placement in refused(built.placements))),
        "compile_seconds": compile_seconds,
        "timing_seconds": timing_seconds,
        "latency_us": built.latency_us,
        "sram_bytes": built.sram_bytes,
        "dram_bytes": built.dram_bytes,
        "weight_bytes": built.weight_bytes,
        "copied_bytes": built.copied_bytes,
        "free_moves": built.free_moves,
        "macs": built.macs,
        "subgraphs": len(reports),
        "subgraphs_below_bound": [r.label for r in reports if r.cycles < r.lower_bound],
    }


def geomean(networks: Iterable[dict[str, Any]]) -> float | None:
    ratios = [found["ratio"] for found in networks if found["ratio"] is not None]
    return geometric_mean(ratios) if ratios else None


def row(name: str, found: dict[str, Any]) -> str:
    on_cpu = ", ".join(f"{count} {kind}" for kind, count in found["cpu_operators"].items()) or "-"
    return (
        f"{name:24}{found['cycles']:11.0f}{found['lower_bound_cycles']:11.0f}{_two_places(found['ratio']):>7}"
        f"{_two_places(found['ratio_to_plain_peak']):>7}{found['latency_us'] / 1e3:8.2f}"
        f"{found['sram_bytes'] / 1024:10.1f}{found['compile_seconds']:10.2f}{found['timing_seconds']:9.2f}  {on_cpu}"
    )


def _two_places(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> int:
    options = parser(__doc__, seed=None)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--network", action="append", help=f"{', '.join(NETWORKS)} or an .onnx file; may be repeated")
    args = options.parse_args()
    spec = load_spec(args.target)
    networks: dict[str, dict[str, Any]] = {}
    print(
        f"{'network':24}{'cycles':>11}{'bound':>11}{'ratio':>7}{'plain':>7}{'ms':>8}"
        f"{'SRAM KiB':>10}{'compile s':>10}{'timing s':>9}  on the CPU"
    )
    for name in args.network or NETWORKS:
        networks[name] = profile(quantised_model(name), spec)
        print(row(name, networks[name]), flush=True)
    overall, whole = geomean(networks.values()), geomean(n for n in networks.values() if not n["cpu_operators"])
    print(f"geomean {_two_places(overall)}; of networks that run on the engine alone {_two_places(whole)}")
    figures = {"target": spec.name, "geomean_ratio": overall, "geomean_ratio_engine_only": whole}
    finish(args.json, {**figures, "networks": networks, **networks})
    return 0


if __name__ == "__main__":
    sys.exit(main())
