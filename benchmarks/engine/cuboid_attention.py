"""Cuboid attention of Earthformer's axial layers, compiled and timed for one engine.

Layers are those of the published SEVIR and ENSO configurations (encoder levels 0 and 1, four heads), with random
weights, without and with 8 global vectors. `cycles` is the timing model on the compiled program.
`lower_bound_cycles` is the largest of MACs ÷ peak of their element types (shares × values at the int8 × int16 rate,
everything else at the int8 rate), vector work ÷ lanes (normalisation, and softmax of 16-bit logits, with the engine's
passes), and compulsory bytes ÷ DRAM bandwidth.
Compulsory are input, output and all constants (weights, position bias, tables), each once.
"""

from __future__ import annotations

import sys
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lanefit.export.compiler import compile_graph
from lanefit.export.cuboid_graph import attention_op, cuboid_graph, with_best_leaf
from lanefit.export.reference import run_region
from lanefit.kernels.cuboid_definition import CuboidSelfAttention, parameters_of
from lanefit.kernels.kernel import held_bytes
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import Unit
from lanefit.targets.spec import EngineSpec, load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

Shape = tuple[int, int, int]
TENSORS: dict[str, tuple[Shape, int]] = {
    "sevir-0": ((13, 32, 32), 128),
    "sevir-1": ((13, 16, 16), 256),
    "enso-0": ((12, 24, 24), 64),
    "enso-1": ((12, 12, 12), 128),
}
HEADS = 4
VECTORS = 8  # global vectors, with shared projections as in the paper


def cuboids(size: Shape) -> dict[str, Shape]:
    """The three layers of the axial pattern."""
    t, h, w = size
    return {"T": (t, 1, 1), "H": (1, h, 1), "W": (1, 1, w)}


def measure(
    size: Shape, channels: int, cuboid: Shape, vectors: int, spec: EngineSpec, seed: int, check: bool
) -> dict[str, Any]:
    torch.manual_seed(seed)
    options = {"use_global_vector": True, "use_global_self_attn": True} if vectors else {}
    p = parameters_of(CuboidSelfAttention(channels, HEADS, cuboid, padding_type="zeros", **options), size)
    leaf = with_best_leaf(attention_op(p, global_vectors=vectors), spec).leaf if vectors else 1
    graph = cuboid_graph(p, global_vectors=vectors, leaf=leaf)
    compiled = compile_graph(graph, spec)
    busy = {unit.unit: unit.busy for unit in compiled.timing.units}
    found = {
        "cycles": compiled.timing.cycles,
        "lower_bound_cycles": compiled.lower_bound_cycles,
        "dram_bytes": compiled.dram_bytes,
        "compulsory_bytes": 2 * (prod(size) + vectors) * channels + held_bytes(graph.nodes[0].op),
        "latency_us": compiled.latency_us,
        "sram_bytes": compiled.sram_bytes,
        "macs": graph.macs,
        "array_busy": busy[Unit.ARRAY],
        "vector_busy": busy[Unit.VECTOR],
        "cuboids_per_tile": compiled.plan.steps[0].choice.tiling.rows,
    }
    if check:
        rng = np.random.default_rng(seed)
        shapes = {name: graph.tensors[name].host_shape for name in graph.inputs}
        feeds = {name: rng.integers(-128, 128, (1, *shape)).astype(np.int8) for name, shape in shapes.items()}
        device, expected = Emulator(compiled.program).run(feeds), run_region(graph, feeds)
        found["different_elements"] = sum(int((device[name] != expected[name]).sum()) for name in expected)
    return found


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--check", action="store_true", help="also compare the emulator with the integer definition")
    args = options.parse_args()
    spec = load_spec(args.target)
    layers: dict[str, dict[str, Any]] = {}
    print(f"{'layer':14}{'cycles':>12}{'bound':>12}{'ratio':>8}{'DRAM':>12}{'compulsory':>12}{'ratio':>8}")
    for tensor, (size, channels) in TENSORS.items():
        for (axis, cuboid), vectors in product(cuboids(size).items(), (0, VECTORS)):
            name = f"{tensor}-{axis}" + (f"-g{vectors}" if vectors else "")
            found = layers[name] = measure(size, channels, cuboid, vectors, spec, args.seed, args.check)
            cycles, bytes_ = found["cycles"], found["dram_bytes"]
            print(
                f"{name:14}{cycles:12d}{found['lower_bound_cycles']:12.0f}"
                f"{cycles / found['lower_bound_cycles']:8.3f}{bytes_:12d}{found['compulsory_bytes']:12d}"
                f"{bytes_ / found['compulsory_bytes']:8.3f}"
                + (f"  {found['different_elements']} elements differ" if args.check else "")
            )
    finish(args.json, {"target": spec.name, "layers": layers}, seed=args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
