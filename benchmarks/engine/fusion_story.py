"""Where a fused inverted bottleneck beats the plain one: cycles by channel count and map size.

Both blocks map C to C channels with expansion 6 and a 3×3 kernel. Each is compiled in the middle of
a small network, so that its maps live where they would live in a real one (SRAM, or DRAM when
they are too large), and its own subgraphs' cycles are added up.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lanefit.export.compiler import Compiled, compile_graph
from lanefit.export.graph import ConvConstants, Graph, Node, Tensor
from lanefit.kernels.ops import Add, Conv2d, Op, Shape, Window
from lanefit.targets.spec import EngineSpec, load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

CHANNELS = (8, 16, 24, 32, 48, 64, 96, 160)
MAPS = (112, 56, 28, 14, 7)


def chain(ops: list[tuple[str, Op, tuple[str, ...]]], shape: Shape) -> Graph:
    """A graph from (output name, operator, input names); constants are zero, since time does not depend on them."""
    tensors = {"input": Tensor("input", shape, host_shape=(shape[2], *shape[:2]))}
    nodes: list[Node] = []
    constants: dict[str, ConvConstants] = {}
    for name, op, inputs in ops:
        tensors[name] = Tensor(name, op.output, host_shape=(op.output[2], *op.output[:2]))
        nodes.append(Node(name, op, inputs, name))
        if isinstance(op, Conv2d):
            depth, count = (1 if op.depthwise else op.input[2]), op.output[2]
            weights = np.zeros((count, op.window.kernel_h, op.window.kernel_w, depth), np.int8)
            constants[name] = ConvConstants(weights, np.zeros(count, np.int32), np.ones(count))
    return Graph(tuple(nodes), tensors, ("input",), (ops[-1][0],), constants)


def block(shape: Shape, expansion: int, *, fused: bool) -> list[tuple[str, Op, tuple[str, ...]]]:
    """The operators of one residual block between the tensors `entry` and `block`."""
    height, width, channels = shape
    wide = (height, width, channels * expansion)
    window = Window(3, 3, 1, 1, 1, 1)
    if fused:
        inner: list[tuple[str, Op, tuple[str, ...]]] = [("conv", Conv2d(shape, wide, window), ("entry",))]
    else:
        inner = [
            ("expand", Conv2d(shape, wide, Window(1, 1)), ("entry",)),
            ("conv", Conv2d(wide, wide, window, depthwise=True), ("expand",)),
        ]
    project = ("project", Conv2d(wide, shape, Window(1, 1)), ("conv",))
    return [*inner, project, ("block", Add(shape), ("entry", "project"))]


def block_cycles(spec: EngineSpec, shape: Shape, *, fused: bool, expansion: int = 6) -> tuple[float, Compiled]:
    """Cycles of the block's subgraphs inside entry → block → exit."""
    ops = [
        ("entry", Conv2d(shape, shape, Window(1, 1)), ("input",)),
        *block(shape, expansion, fused=fused),
        ("exit", Conv2d(shape, shape, Window(1, 1)), ("block",)),
    ]
    compiled = compile_graph(chain(ops, shape), spec)
    own = [r.cycles - r.hidden_cycles for r in compiled.report if not {"entry", "exit"} & set(r.nodes)]
    return sum(own), compiled


def main() -> int:
    options = parser(__doc__, seed=None)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--expansion", type=int, default=6)
    args = options.parse_args()
    spec = load_spec(args.target)
    rows = []
    print(f"fused ÷ plain cycles on {spec.name}, expansion {args.expansion}, 3×3 (below 1: fused is faster)")
    print("channels " + "".join(f"{f'{size}×{size}':>10}" for size in MAPS))
    for channels in CHANNELS:
        ratios = []
        for size in MAPS:
            shape = (size, size, channels)
            plain, _ = block_cycles(spec, shape, fused=False, expansion=args.expansion)
            fused, _ = block_cycles(spec, shape, fused=True, expansion=args.expansion)
            rows.append({"channels": channels, "map": size, "plain_cycles": plain, "fused_cycles": fused})
            ratios.append(fused / plain)
        print(f"{channels:8} " + "".join(f"{ratio:10.2f}" for ratio in ratios))
    finish(args.json, {"target": spec.name, "expansion": args.expansion, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
