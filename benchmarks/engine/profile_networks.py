"""Compiles and times MobileNetV2-1.0-224 and ResNet-18 (random weights), or ONNX files, for one engine.

`cycles` is the timing model on the compiled program, `lower_bound_cycles` the largest of array work, vector
work and compulsory bytes; `compile_seconds` covers planning, lowering and timing of candidate tilings,
`timing_seconds` one more simulation of the finished program.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from onnx import ModelProto

from lanefit.export.compiler import compile_graph
from lanefit.export.importer import import_model
from lanefit.export.onnx_export import to_onnx
from lanefit.export.onnx_model import load_model
from lanefit.export.quantise import is_quantised, quantise, random_calibration
from lanefit.targets.spec import EngineSpec, load_spec
from lanefit.targets.timing import simulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import INPUT_SHAPE, NETWORKS

from common import finish, parser


def quantised(name: str) -> ModelProto:
    """The int8 QDQ model of a named network or an ONNX file; scales come from random data and do not affect time."""
    model = to_onnx(NETWORKS[name]().eval(), INPUT_SHAPE) if name in NETWORKS else load_model(Path(name))
    if is_quantised(model):
        return model
    shape = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    return quantise(model, random_calibration(shape))


def profile(model: ModelProto, spec: EngineSpec) -> dict[str, Any]:
    """Figures of all engine regions together."""
    regions = import_model(model).regions
    start = time.perf_counter()
    compiled = [compile_graph(region.graph, spec) for region in regions]
    compile_seconds = time.perf_counter() - start
    start = time.perf_counter()
    cycles = sum(simulate(item.program).cycles for item in compiled)
    timing_seconds = time.perf_counter() - start
    reports = [report for item in compiled for report in item.report]
    return {
        "cycles": cycles,
        "lower_bound_cycles": sum(item.lower_bound_cycles for item in compiled),
        "compile_seconds": compile_seconds,
        "timing_seconds": timing_seconds,
        "latency_us": sum(item.latency_us for item in compiled),
        "sram_bytes": max(item.sram_bytes for item in compiled),
        "dram_bytes": sum(item.dram_bytes for item in compiled),
        "weight_bytes": sum(item.weight_bytes for item in compiled),
        "macs": sum(report.macs for report in reports),
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
        found = networks[name] = profile(quantised(name), spec)
        ratio = found["cycles"] / found["lower_bound_cycles"]
        print(
            f"{name:20}{found['cycles']:10.0f}{found['lower_bound_cycles']:10.0f}{ratio:10.2f}"
            f"{found['latency_us'] / 1e3:10.2f}{found['sram_bytes'] / 1024:10.1f}"
            f"{found['compile_seconds']:10.2f}{found['timing_seconds']:10.2f}"
        )
    finish(args.json, {"target": spec.name, "networks": networks, **networks})
    return 0


if __name__ == "__main__":
    sys.exit(main())
