"""Speed of the emulator and of the cycle model on one core or as many as NumPy takes.

The network is MobileNetV2 with width 0.5 on 32×32 images, built from random int8 weights without torch; the
small program is its first block. Wall times belong to the machine in the environment record.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph
from lanefit.export.random_graphs import GraphBuilder, random_inputs
from lanefit.kernels.ops import Add, Conv2d, Pool2d, Window
from lanefit.targets.emulator import Emulator
from lanefit.targets.encoding import decode, encode
from lanefit.targets.program import Program
from lanefit.targets.resolve import walk
from lanefit.targets.spec import EngineSpec, load_spec
from lanefit.targets.timing import simulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

# expansion, channels at width 0.5, repetitions, stride of the first one: the published table, strides for 32×32 maps
BLOCKS = ((1, 8, 1, 1), (6, 16, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))


def mobilenet(rng: np.random.Generator, blocks: tuple[tuple[int, int, int, int], ...] = BLOCKS) -> Graph:
    """Stem, inverted bottlenecks and head; a graph of the first blocks when `blocks` is shorter."""
    b = GraphBuilder(rng)
    name = _conv(b, b.tensor("image", (32, 32, 3), 0.01), 16, 3)
    for expansion, channels, repetitions, stride in blocks:
        for number in range(repetitions):
            name = _bottleneck(b, name, expansion, channels, stride if number == 0 else 1)
    if blocks == BLOCKS:
        name = _conv(b, name, 640, 1)
        height, width, channels = b.tensors[name].shape
        name = b.add_node(Pool2d((height, width, channels), (1, 1, channels), Window(height, width), False), name)
        name = _conv(b, name, 10, 1)
    return b.graph((name,))


def _bottleneck(b: GraphBuilder, source: str, expansion: int, channels: int, stride: int) -> str:
    inputs = b.tensors[source].shape[2]
    name = _conv(b, source, expansion * inputs, 1) if expansion > 1 else source
    name = _conv(b, name, expansion * inputs, 3, stride, depthwise=True)
    name = _conv(b, name, channels, 1)
    return b.add_node(Add(b.tensors[name].shape), source, name) if (inputs, stride) == (channels, 1) else name


def _conv(b: GraphBuilder, source: str, channels: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> str:
    height, width, inputs = b.tensors[source].shape
    pad = kernel // 2
    window = Window(kernel, kernel, stride, stride, pad, pad)
    shape = ((height - 1) // stride + 1, (width - 1) // stride + 1, channels)
    return b.add_node(Conv2d((height, width, inputs), shape, window, depthwise), source)


def emulate(program: Program, graph: Graph, images: int, rng: np.random.Generator) -> dict[str, float]:
    """Seconds to run `images` images through the decoded file."""
    data = encode(program)
    value = random_inputs(rng, graph, images)[graph.inputs[0]]
    start = time.perf_counter()
    Emulator(decode(data)).run({graph.inputs[0]: np.ascontiguousarray(value.transpose(0, 3, 1, 2))})
    seconds = time.perf_counter() - start
    macs = graph.macs * images
    return {
        "images": images,
        "seconds": seconds,
        "images_per_second": images / seconds,
        "macs_per_second": macs / seconds,
    }


def time_simulation(program: Program, repetitions: int) -> dict[str, float]:
    """Median seconds of one simulation, and dynamic instructions (LOOP and END not counted) per second."""
    count = sum(1 for queue in program.queues.values() for _ in walk(queue))
    seconds = median(_seconds(lambda: simulate(program)) for _ in range(repetitions))
    return {"instructions": count, "seconds": seconds, "instructions_per_second": count / seconds}


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(spec: EngineSpec, images: int, repetitions: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    graph, small = mobilenet(rng), mobilenet(rng, BLOCKS[:1])
    program = compile_graph(graph, spec).program
    return {
        "target": spec.name,
        "convolutions": sum(isinstance(node.op, Conv2d) for node in graph.nodes),
        "macs": graph.macs,
        "emulator": emulate(program, graph, images, rng),
        "timing": time_simulation(program, repetitions),
        "timing_small": time_simulation(compile_graph(small, spec).program, repetitions),
    }


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--images", type=int, default=360, help="images to emulate (default: %(default)s)")
    options.add_argument("--repetitions", type=int, default=21, help="simulations to take the median of")
    args = options.parse_args()
    found = measure(load_spec(args.target), args.images, args.repetitions, args.seed)
    run = found["emulator"]
    print(f"emulator      {run['images']} images in {run['seconds']:.2f} s, {run['macs_per_second'] / 1e9:.2f} GMAC/s")
    for name in ("timing", "timing_small"):
        row = found[name]
        rate = row["instructions_per_second"] / 1e3
        print(f"{name:13} {row['instructions']} instructions in {row['seconds'] * 1e3:.2f} ms, {rate:.0f} thousand/s")
    finish(args.json, found, seed=args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
