"""Compiles and times MobileNetV2-1.0-224 and ResNet-18 (random weights), or ONNX files, for one engine.

`cycles` is the timing model on the compiled program, `lower_bound_cycles` the largest of array work, vector
work and compulsory bytes; `compile_seconds` covers import, planning, lowering and timing of candidate tilings,
`timing_seconds` one more simulation of the finished program.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from onnx import ModelProto

from lanefit.export.judgement import refused
from lanefit.export.onnx_export import simplify, to_onnx
from lanefit.export.onnx_model import GraphIndex, load_model
from lanefit.export.pipeline import build, quantised
from lanefit.export.quantise import is_quantised, random_calibration
from lanefit.targets.spec import EngineSpec, load_spec
from lanefit.targets.timing import simulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import INPUT_SHAPE, NETWORKS

from common import finish, parser


def int8(name: str) -> ModelProto:
    """The int8 QDQ model of a named network or an ONNX file; scales come from random data and do not affect time."""
    model = to_onnx(NETWORKS[name]().eval(), INPUT_SHAPE) if name in NETWORKS else load_model(Path(name))
    if is_quantised(model):
        return model
    model = simplify(model)
    return quantised(model, random_calibration(GraphIndex(model).shape(model.graph.input[0].name))).int8


def profile(model: ModelProto, spec: EngineSpec) -> dict[str, Any]:
    """Figures of all engine regions together; operators on the CPU are only counted."""
    start = time.perf_counter()
    built = build(model, spec)
    compile_seconds = time.perf_counter() - start
    start = time.perf_counter()
    cycles = sum(simulate(item.program).cycles for item in built.compiled)
    timing_seconds = time.perf_counter() - start
    compiled = built.compiled
    reports = [report for item in compiled for report in item.report]
    return {
        "cycles": cycles,
        "lower_bound_cycles": sum(item.lower_bound_cycles for item in compiled),
        "compile_seconds": compile_seconds,
        "timing_seconds": timing_seconds,
        "latency_us": built.latency_us,
        "sram_bytes": built.sram_bytes,
        "dram_bytes": built.dram_bytes,
        "weight_bytes": built.weight_bytes,
        "macs": built.macs,
        "cpu_operators": len(refused(built.placements)),
        "subgraphs": len(reports),
        "subgraphs_below_bound": [r.label for r in reports if r.cycles < r.lower_bound],
    }


def main() -> int:
    options = parser(__doc__, seed=None)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--network", action="append", help=f"{', '.join(NETWORKS)} or an .onnx file; may be repeated")
    args = options.parse_args()
    spec = load_spec(args.target)
    networks: dict[str, dict[str, Any]] = {}
    heads = ("cycles", "bound", "ratio", "ms", "SRAM KiB", "compile s", "timing s")
    print(f"{'network':20}" + "".join(f"{head:>10}" for head in heads))
    for name in args.network or NETWORKS:
        found = networks[name] = profile(int8(name), spec)
        ratio = found["cycles"] / max(1.0, found["lower_bound_cycles"])
        print(
            f"{name:20}{found['cycles']:10.0f}{found['lower_bound_cycles']:10.0f}{ratio:10.2f}"
            f"{found['latency_us'] / 1e3:10.2f}{found['sram_bytes'] / 1024:10.1f}"
            f"{found['compile_seconds']:10.2f}{found['timing_seconds']:10.2f}"
        )
    finish(args.json, {"target": spec.name, "networks": networks, **networks})
    return 0


if __name__ == "__main__":
    sys.exit(main())
